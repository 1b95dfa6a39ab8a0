//! `${NAME}` in a file: the caller's variables reach compose under a prefix of their own, so that none of
//! them can be one that steers compose itself or the loader of its process.

use viworks_sdk::prelude::*;

use super::Node;

/// What the caller's `NAME` is called in compose's environment: `VIWORKS_VAR_NAME`.
pub const PREFIX: &str = "VIWORKS_VAR_";

/// The caller's variables under their names in compose's environment.
pub fn prefixed(env: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    for (name, value) in env {
        variables.insert(format!("{PREFIX}{name}"), value.clone());
    }
    variables
}

/// Makes every place of `file` that uses one of `env` use its prefixed name.
pub fn rename(file: &mut Node, env: &BTreeMap<String, String>) {
    if env.is_empty() {
        return;
    }
    let services = file.get_mut("services").map(Node::entries_mut).unwrap_or_default();
    for (_, service) in services {
        if let Some(environment) = service.get_mut("environment") {
            fill(environment, env);
        }
        if let Some(args) = service.get_mut("build").and_then(|build| build.get_mut("args")) {
            fill(args, env);
        }
    }
    for section in ["configs", "secrets"] {
        for (_, item) in file.get_mut(section).map(Node::entries_mut).unwrap_or_default() {
            if let Some(Node::Text { text, .. }) = item.get_mut("environment")
                && env.contains_key(text.as_str())
            {
                text.insert_str(0, PREFIX);
            }
        }
    }
    everywhere(file, env);
}

/// A variable without a value takes the one of compose's own environment; say which one that is now.
fn fill(variables: &mut Node, env: &BTreeMap<String, String>) {
    match variables {
        Node::Map(entries) => {
            for (name, value) in entries {
                if value.is_null() && env.contains_key(name.as_str()) {
                    *value = Node::quoted(format!("${{{name}}}"));
                }
            }
        }
        Node::List(items) => {
            for item in items {
                if let Node::Text { text, .. } = item
                    && env.contains_key(text.as_str())
                {
                    *item = Node::quoted(format!("{text}=${{{text}}}"));
                }
            }
        }
        Node::Text { .. } => {}
    }
}

fn everywhere(node: &mut Node, env: &BTreeMap<String, String>) {
    match node {
        Node::Text { text, .. } => {
            if text.contains('$') {
                *text = renamed(text, env);
            }
        }
        Node::List(items) => items.iter_mut().for_each(|item| everywhere(item, env)),
        // Keys are not interpolated by compose.
        Node::Map(entries) => entries.iter_mut().for_each(|(_, value)| everywhere(value, env)),
    }
}

/// `text` with the names behind `$` and `${` prefixed, defaults inside braces included.
fn renamed(text: &str, env: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len() + PREFIX.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, behind) = rest.split_at(at + 1);
        out.push_str(before);
        rest = behind;
        if let Some(behind) = rest.strip_prefix('$') {
            // Two of them stand for one that is no variable.
            out.push('$');
            rest = behind;
            continue;
        }
        if let Some(behind) = rest.strip_prefix('{') {
            out.push('{');
            rest = behind;
        }
        let is_name = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let length = rest.bytes().take_while(|b| is_name(*b)).count();
        let (name, behind) = rest.split_at(length);
        if env.contains_key(name) {
            out.push_str(PREFIX);
        }
        out.push_str(name);
        rest = behind;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_given_variables_are_renamed_and_only_where_they_are_variables() {
        let env = BTreeMap::from([("A".to_owned(), "1".to_owned()), ("B2".to_owned(), String::new())]);
        for (before, after) in [
            ("$A", "$VIWORKS_VAR_A"),
            ("${A}", "${VIWORKS_VAR_A}"),
            ("x-$A-y", "x-$VIWORKS_VAR_A-y"),
            ("$AB", "$AB"),
            ("${A:-d}${B2-e}", "${VIWORKS_VAR_A:-d}${VIWORKS_VAR_B2-e}"),
            ("${C:-${A}}", "${C:-${VIWORKS_VAR_A}}"),
            ("$$A $${A} $$$A", "$$A $${A} $$$VIWORKS_VAR_A"),
            ("cost: 5$", "cost: 5$"),
            ("${", "${"),
            ("é$A", "é$VIWORKS_VAR_A"),
        ] {
            assert_eq!(renamed(before, &env), after, "{before}");
        }
    }
}
