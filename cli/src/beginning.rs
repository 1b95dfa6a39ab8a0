//! The beginning of an id in place of the whole: what it can be the beginning of is listed, and one must fit.

use api::alert::Alert;
use domain::alert::life::State;
use futures_util::{StreamExt as _, TryStreamExt as _};
use viworks_client::{Client, CommandQuery};

use crate::failure::Failure;
use crate::output::escape;

/// Shortest beginning that is taken for an id.
const SHORTEST: usize = 6;
/// Length of a whole id.
const WHOLE: usize = 36;
/// Newest commands, and newest alerts, among which a beginning is looked for.
const NEWEST: usize = 500;

/// An id, and a word about what has it.
type Known = (String, String);

/// The command's id that `text` is or begins. A whole id is taken as it is, here and below.
///
/// # Errors
/// When none of the newest commands begins so, or several do.
pub async fn command(client: &Client, text: &str) -> Result<String, Failure> {
    if !is_beginning(text) {
        return Ok(text.to_owned());
    }
    let newest = client.commands(&CommandQuery::default(), NEWEST).await?.items;
    let known = newest.into_iter().map(|one| (one.id, one.verb)).collect();
    pick(text, known, &format!("none of the newest {NEWEST} commands"), "commands")
}

/// The alert's id, be it over or not.
///
/// # Errors
/// When none of the newest alerts begins so, or several do.
pub async fn alert(client: &Client, text: &str) -> Result<String, Failure> {
    if !is_beginning(text) {
        return Ok(text.to_owned());
    }
    // Without states the host tells only what is not over.
    let states = State::WORDS.map(|word| ("state", word.to_owned()));
    let newest = client.each::<Alert>(&["alerts"], states.into()).take(NEWEST);
    let known = newest.map_ok(|one| (one.id, format!("{} {}", one.rule, one.state))).try_collect().await?;
    pick(text, known, &format!("none of the newest {NEWEST} alerts"), "alerts")
}

/// The silence's id.
///
/// # Errors
/// When no silence that lasts begins so, or several do.
pub async fn silence(client: &Client, text: &str) -> Result<String, Failure> {
    if !is_beginning(text) {
        return Ok(text.to_owned());
    }
    let known = client.silences().await?.items.into_iter().map(|one| (one.id, one.comment)).collect();
    pick(text, known, "no silence that lasts", "silences")
}

/// The join token's id.
///
/// # Errors
/// When no join token begins so, or several do.
pub async fn join_token(client: &Client, text: &str) -> Result<String, Failure> {
    if !is_beginning(text) {
        return Ok(text.to_owned());
    }
    let known = client.join_tokens().await?.items.into_iter().map(|one| (one.id, one.site)).collect();
    pick(text, known, "no join token", "join tokens")
}

/// The API key's id.
///
/// # Errors
/// When no key begins so, or several do.
pub async fn api_key(client: &Client, text: &str) -> Result<String, Failure> {
    if !is_beginning(text) {
        return Ok(text.to_owned());
    }
    let about = |key: api::access::ApiKey| (key.id, key.name.unwrap_or(key.user_name));
    let known = client.api_keys().await?.items.into_iter().map(about).collect();
    pick(text, known, "no API key", "API keys")
}

fn is_beginning(text: &str) -> bool {
    (SHORTEST..WHOLE).contains(&text.len()) && text.chars().all(|c| c.is_ascii_hexdigit() || c == '-')
}

/// The one that begins so; `none` and `many` say what there is none or are several of.
fn pick(text: &str, known: Vec<Known>, none: &str, many: &str) -> Result<String, Failure> {
    let wanted = text.to_ascii_lowercase();
    let mut fitting: Vec<Known> = known.into_iter().filter(|(id, _)| id.starts_with(&wanted)).collect();
    match fitting.len() {
        0 => Err(Failure::usage(format!("{none} begins with `{text}`: give its whole id"))),
        1 => Ok(fitting.remove(0).0),
        count => {
            let shown = |(id, about): &Known| format!("\n  {}", escape::line(&format!("{id} {about}")));
            let shown: String = fitting.iter().take(5).map(shown).collect();
            Err(Failure::usage(format!("{count} {many} begin with `{text}`:{shown}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "0193f2c4-0000-7000-8000-000000000001";
    const SECOND: &str = "0193f2c4-0001-7000-8000-000000000002";

    #[test]
    fn a_beginning_is_long_enough_and_not_a_whole_id() {
        for (text, is) in [("0193f", false), ("0193f2", true), ("0193F2C4-00", true), ("web-01", false), (FIRST, false)]
        {
            assert_eq!(is_beginning(text), is, "{text}");
        }
    }

    #[test]
    fn one_fits_or_it_is_said_why_not() {
        let known = || vec![(FIRST.to_owned(), "exec.run".to_owned()), (SECOND.to_owned(), "docker.ps".to_owned())];
        let picked = |text: &str| pick(text, known(), "no command", "commands").map_err(|failure| failure.message);
        assert_eq!(picked("0193F2C4-0001"), Ok(SECOND.to_owned()));
        assert_eq!(picked("0193ff").expect_err("none"), "no command begins with `0193ff`: give its whole id");
        let several = picked("0193f2c4").expect_err("both");
        assert_eq!(several, format!("2 commands begin with `0193f2c4`:\n  {FIRST} exec.run\n  {SECOND} docker.ps"));
    }
}
