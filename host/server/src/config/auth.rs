//! Whose tokens count: how ours are signed, and another issuer's.

use std::collections::BTreeMap;
use std::path::PathBuf;

use domain::access::Role;
use plan::effect::Effect;
use serde::Deserialize;

use super::{Config, Wrong, wrong};

/// `[auth]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Auth {
    /// What access tokens are signed with: the one algorithm that is taken.
    pub algorithm: Algorithm,
    /// HS256: the file with the secret, at least 32 bytes, which others may not read.
    pub secret_file: Option<PathBuf>,
    /// Another issuer whose tokens count, too.
    pub oidc: Option<Oidc>,
}

/// What access tokens are signed with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Algorithm {
    /// Ed25519, with the key in the data directory.
    #[default]
    EdDSA,
    /// A secret that others may share.
    HS256,
}

/// `[auth.oidc]`
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Oidc {
    /// Exactly what `iss` of its tokens is.
    pub issuer: String,
    /// What `aud` of its tokens has to name.
    pub audience: String,
    /// Where its keys are, a JWK Set.
    pub jwks_url: Option<String>,
    /// The same as a file.
    pub jwks_file: Option<PathBuf>,
    /// The claim that names the person.
    #[serde(default = "name_claim")]
    pub name_claim: String,
    /// The claim that says what they are: a word, or a list of words.
    #[serde(default = "role_claim")]
    pub role_claim: String,
    /// Which role each of those words stands for; the highest counts, and who has none is refused.
    pub roles: BTreeMap<String, String>,
    /// The claim that lists their sites, as patterns; all sites when absent here.
    pub sites_claim: Option<String>,
    /// What they may cause.
    #[serde(default = "effects")]
    pub effects: Vec<String>,
}

fn name_claim() -> String {
    "sub".to_owned()
}

fn role_claim() -> String {
    "roles".to_owned()
}

fn effects() -> Vec<String> {
    [Effect::Read, Effect::Change].map(|effect| effect.as_str().to_owned()).into()
}

#[cfg(feature = "oidc")]
impl Oidc {
    /// The same, as the API's door takes it; to be asked of a configuration that was checked.
    pub fn options(&self) -> rest::oidc::Options {
        let Oidc { issuer, audience, jwks_url, jwks_file, name_claim, role_claim, roles, sites_claim, effects } =
            self.clone();
        let from = match (jwks_url, jwks_file) {
            (Some(url), _) => rest::oidc::Source::Url(url),
            (None, file) => rest::oidc::Source::File(file.unwrap_or_default()),
        };
        let roles = roles.into_iter().filter_map(|(word, role)| Some((word, Role::parse(&role)?))).collect();
        let effects = effects.iter().filter_map(|effect| Effect::parse(effect)).collect();
        rest::oidc::Options { issuer, audience, from, name_claim, role_claim, roles, sites_claim, effects }
    }
}

/// Says what could never work.
pub(super) fn check(config: &Config) -> Result<(), Wrong> {
    let Auth { algorithm, secret_file, oidc } = &config.auth;
    match (algorithm, secret_file) {
        (Algorithm::HS256, None) => {
            return wrong("auth.secret_file", "HS256 takes a secret: name a file with at least 32 random bytes");
        }
        (Algorithm::EdDSA, Some(_)) => {
            return wrong("auth.secret_file", "is of no use with EdDSA; set auth.algorithm = \"HS256\" or remove it");
        }
        (Algorithm::HS256, Some(_)) | (Algorithm::EdDSA, None) => {}
    }
    oidc.as_ref().map_or(Ok(()), check_oidc)
}

fn check_oidc(oidc: &Oidc) -> Result<(), Wrong> {
    if cfg!(not(feature = "oidc")) {
        return wrong("auth.oidc", "this host was built without `oidc`");
    }
    if oidc.issuer.is_empty() || oidc.audience.is_empty() {
        return wrong("auth.oidc", "issuer and audience are needed: they are what tells its tokens from others");
    }
    match (&oidc.jwks_url, &oidc.jwks_file) {
        (Some(url), None) => {
            let loopback = ["http://127.0.0.1", "http://localhost", "http://[::1]"];
            if !url.starts_with("https://") && !loopback.iter().any(|known| is_at(url, known)) {
                return wrong("auth.oidc.jwks_url", "https, for whoever changes its answer decides who is let in");
            }
        }
        (None, Some(_)) => {}
        (Some(_), Some(_)) | (None, None) => return wrong("auth.oidc", "one of jwks_url and jwks_file"),
    }
    if oidc.roles.is_empty() {
        return wrong("auth.oidc.roles", "say which word of the claim is which role; nobody would be let in");
    }
    if let Some((word, role)) = oidc.roles.iter().find(|(_, role)| Role::parse(role).is_none()) {
        return wrong("auth.oidc.roles", format!("{word}: `{role}` is not viewer, operator or admin"));
    }
    if let Some(effect) = oidc.effects.iter().find(|effect| Effect::parse(effect).is_none()) {
        return wrong("auth.oidc.effects", format!("`{effect}` is not read, change, destroy or host"));
    }
    Ok(())
}

/// Whether `url` is at this very place, and not at a name that begins like it.
fn is_at(url: &str, place: &str) -> bool {
    url.strip_prefix(place).is_some_and(|rest| rest.starts_with([':', '/']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Result<(), String> {
        let config: Config = toml::from_str(text).expect("of the right shape");
        check(&config).map_err(|Wrong { key, message }| format!("{key}: {message}"))
    }

    #[test]
    fn a_secret_belongs_to_its_algorithm() {
        assert_eq!(said(""), Ok(()));
        assert_eq!(said("[auth]\nalgorithm = \"HS256\"\nsecret_file = \"s\""), Ok(()));
        for bad in ["[auth]\nalgorithm = \"HS256\"", "[auth]\nsecret_file = \"s\""] {
            assert!(said(bad).is_err_and(|said| said.starts_with("auth.secret_file: ")), "{bad}");
        }
        let none: Result<Config, _> = toml::from_str("[auth]\nalgorithm = \"none\"");
        assert!(none.is_err_and(|error| error.message().contains("`EdDSA` or `HS256`")));
    }

    #[cfg(feature = "oidc")]
    #[test]
    fn another_issuer_is_told_exactly() {
        let oidc =
            |rest: &str| said(&format!("[auth.oidc]\nissuer = \"https://id.test\"\naudience = \"viworks\"\n{rest}"));
        let roles = "roles = { ops = \"operator\" }\n";
        for url in ["https://id.test/jwks", "http://127.0.0.1:1/jwks", "http://[::1]/jwks"] {
            assert_eq!(oidc(&format!("jwks_url = \"{url}\"\n{roles}")), Ok(()), "{url}");
        }
        assert_eq!(oidc(&format!("jwks_file = \"j\"\n{roles}")), Ok(()));
        for bad in [
            roles.to_owned(),
            format!("jwks_url = \"https://id.test\"\njwks_file = \"j\"\n{roles}"),
            format!("jwks_url = \"http://id.test/jwks\"\n{roles}"),
            format!("jwks_url = \"http://localhost.id.test/jwks\"\n{roles}"),
            "jwks_file = \"j\"\nroles = {}".to_owned(),
            "jwks_file = \"j\"\nroles = { ops = \"root\" }".to_owned(),
            format!("jwks_file = \"j\"\neffects = [\"all\"]\n{roles}"),
        ] {
            assert!(oidc(&bad).is_err(), "{bad}");
        }
    }
}
