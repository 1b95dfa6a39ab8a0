//! Where settings come from: a TOML file, then the environment. Remembers which, so that an error can
//! say where to mend it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::{Config, ConfigError};

/// Prefix of environment overrides, e.g. `VIWORKS__SERVER__BIND`.
const ENV_PREFIX: &str = "VIWORKS__";

/// Settings as they were written.
#[derive(Default)]
pub(super) struct Source {
    file: Option<(PathBuf, String)>,
    variables: BTreeMap<String, String>,
}

impl Source {
    /// Takes `file`, if there is one, and the overrides in `env`.
    pub fn read(file: Option<&Path>, env: impl IntoIterator<Item = (String, String)>) -> Result<Source, ConfigError> {
        let file = match file {
            None => None,
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|cause| ConfigError::Read { path: path.display().to_string(), cause })?;
                Some((path.to_owned(), text))
            }
        };
        let variables = env.into_iter().filter(|(key, _)| key.starts_with(ENV_PREFIX)).collect();
        Ok(Source { file, variables })
    }

    /// The settings they lead to, not checked yet.
    pub fn parse(&self) -> Result<Config, ConfigError> {
        let mut table = match &self.file {
            None => toml::Table::new(),
            Some((path, text)) => parse_file(path, text)?,
        };
        for (name, value) in &self.variables {
            apply(&mut table, name, value)?;
        }
        read_table(table).map_err(|message| ConfigError::Parse { place: "environment".to_owned(), message })
    }

    /// Where `section.key` was said; `None` when it was not.
    pub fn place(&self, key: &str) -> Option<String> {
        let variable = self.variables.keys().find(|name| dotted(name).as_deref() == Some(key));
        if let Some(name) = variable {
            return Some(format!("environment variable {name}"));
        }
        let (path, text) = self.file.as_ref()?;
        let (section, key) = key.split_once('.')?;
        let table = DeTable::parse(text).ok()?;
        let DeValue::Table(section) = table.get_ref().get(section)?.get_ref() else { return None };
        let value = section.get(key)?;
        Some(format!("{}:{}", path.display(), line_at(text, value.span().start)))
    }
}

/// Reads the file alone first, so that errors carry its lines.
fn parse_file(path: &Path, text: &str) -> Result<toml::Table, ConfigError> {
    let located = |error: toml::de::Error| {
        let line = error.span().map_or(1, |span| line_at(text, span.start));
        ConfigError::Parse { place: format!("{}:{line}", path.display()), message: error.message().to_owned() }
    };
    toml::from_str::<Config>(text).map_err(located)?;
    toml::from_str(text).map_err(located)
}

fn line_at(text: &str, offset: usize) -> usize {
    text[..offset.min(text.len())].matches('\n').count() + 1
}

fn read_table(table: toml::Table) -> Result<Config, String> {
    toml::Value::Table(table).try_into().map_err(|error: toml::de::Error| error.message().to_owned())
}

/// `VIWORKS__SERVER__BIND` is `server.bind`.
fn dotted(name: &str) -> Option<String> {
    let (section, key) = name.strip_prefix(ENV_PREFIX)?.split_once("__")?;
    Some(format!("{}.{}", section.to_lowercase(), key.to_lowercase()))
}

/// `VIWORKS__SERVER__BIND=…` sets `server.bind`.
fn apply(table: &mut toml::Table, name: &str, value: &str) -> Result<(), ConfigError> {
    let parse = |message: String| ConfigError::Parse { place: format!("environment variable {name}"), message };
    let path = dotted(name).ok_or_else(|| parse("expected VIWORKS__SECTION__KEY".to_owned()))?;
    let (section, key) = path.split_once('.').expect("dotted holds a dot");
    // What reads as a TOML value is one, unless its key wants text: a password may be all digits.
    let as_value = format!("v = {value}").parse::<toml::Table>().ok().and_then(|mut wrapped| wrapped.remove("v"));
    let as_text = toml::Value::String(value.to_owned());
    let candidates = as_value.into_iter().chain([as_text]);
    let mut refusal = None;
    for candidate in candidates {
        let mut attempt = table.clone();
        let entry = attempt.entry(section).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        let Some(entry) = entry.as_table_mut() else { return Err(parse("its section is no table".to_owned())) };
        entry.insert(key.to_owned(), candidate);
        match read_table(attempt.clone()) {
            Ok(_) => {
                *table = attempt;
                return Ok(());
            }
            // The first refusal is about the value as it was probably meant.
            Err(message) => refusal = refusal.or(Some(message)),
        }
    }
    Err(parse(refusal.unwrap_or_default()))
}
