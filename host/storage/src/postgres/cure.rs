//! What to do about a server that does not let us in. Whoever reads it has just been told the cause.
//!
//! Source: <https://www.postgresql.org/docs/current/errcodes-appendix.html>

const DEFAULT: &str = "check that the server runs and that database.url names it";

/// What mends it.
pub(super) fn of(error: &sqlx::Error) -> &'static str {
    match error {
        sqlx::Error::Database(refused) => of_refusal(refused.code().as_deref(), refused.message()),
        sqlx::Error::Tls(_) | sqlx::Error::Io(_) => of_tls(&error.to_string()),
        _ => DEFAULT,
    }
}

fn of_refusal(code: Option<&str>, message: &str) -> &'static str {
    match code {
        // No line of pg_hba.conf is for us as we came.
        Some("28000") if message.contains("no encryption") => {
            "the server takes this login only with TLS: say sslmode=verify-full in database.url, and in \
             database.root_certificate which authority signed its certificate"
        }
        Some("28000") => "add a line for this host, user and database to pg_hba.conf on the server",
        Some("28P01") => "check the user in database.url, and database.password or database.password_file",
        Some("3D000") => "create the database, or name another one in database.url",
        _ => DEFAULT,
    }
}

/// The library says what is wrong with a certificate in words only.
fn of_tls(said: &str) -> &'static str {
    let said = said.to_lowercase();
    let has = |word| said.contains(word);
    if has("does not support tls") {
        "set ssl = on in postgresql.conf on the server, or say sslmode=disable in database.url if the network is trusted"
    } else if has("not valid for name") || has("notvalidforname") {
        "name the server in database.url as its certificate does"
    } else if has("expired") {
        "renew the server's certificate"
    } else if has("certificate") {
        "name the authority that signed the server's certificate in database.root_certificate"
    } else {
        DEFAULT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_its_cure() {
        for (code, message, cure) in [
            ("28000", "no pg_hba.conf entry for host \"10.0.0.7\", no encryption", "only with TLS"),
            ("28000", "no pg_hba.conf entry for host \"10.0.0.7\", SSL encryption", "pg_hba.conf"),
            ("28P01", "password authentication failed for user \"ops\"", "database.password_file"),
            ("3D000", "database \"viworks\" does not exist", "create the database"),
            ("53300", "sorry, too many clients already", DEFAULT),
        ] {
            assert!(of_refusal(Some(code), message).contains(cure), "{message}");
        }
        for (said, cure) in [
            ("server does not support TLS", "ssl = on"),
            ("invalid peer certificate: UnknownIssuer", "database.root_certificate"),
            ("invalid peer certificate: certificate not valid for name \"db\"", "name the server in database.url"),
            ("invalid peer certificate: certificate expired: verification time …", "renew"),
            ("Connection refused (os error 111)", DEFAULT),
        ] {
            assert!(of_tls(said).contains(cure), "{said}");
        }
    }
}
