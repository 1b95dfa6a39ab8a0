//! Names that are nearly the one asked for.

/// Most names offered.
const MOST: usize = 3;
/// Names longer than this are not compared; nothing here has one.
const LONGEST: usize = 64;

/// The names nearest to `name`, nearest first: at most three, at most a third of the name away.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Vec<String> {
    if name.len() > LONGEST {
        return Vec::new();
    }
    let allowed = (name.chars().count() / 3).max(1);
    let mut found: Vec<(usize, &str)> =
        known.map(|candidate| (distance(name, candidate), candidate)).filter(|(away, _)| *away <= allowed).collect();
    found.sort_unstable();
    found.into_iter().take(MOST).map(|(_, candidate)| candidate.to_owned()).collect()
}

/// Insertions, deletions, replacements and swaps of neighbours that turn `left` into `right`.
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=right.len()).collect();
    for (i, from) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, to) in right.iter().enumerate() {
            let mut best = (above[j] + usize::from(from != to)).min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *from == right[j - 1] && left[i - 1] == *to {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_slips_are_found_and_strangers_are_not() {
        let known = ["docker.ps", "docker.rm", "docker.run", "docker.pull", "exec.run"];
        let find = |name: &str| nearest(name, known.into_iter());
        assert_eq!(find("docker.sp"), ["docker.ps", "docker.rm", "docker.run"]);
        assert_eq!(find("exec.runn"), ["exec.run"]);
        assert_eq!(find("dockr.pull")[0], "docker.pull");
        assert!(find("kubectl.apply").is_empty());
        assert!(find(&"x".repeat(5000)).is_empty());
    }

    #[test]
    fn distance_counts_slips() {
        for (left, right, expected) in
            [("", "", 0), ("a", "", 1), ("ab", "ba", 1), ("kitten", "sitting", 3), ("ä", "a", 1)]
        {
            assert_eq!(distance(left, right), expected, "{left} {right}");
        }
    }
}
