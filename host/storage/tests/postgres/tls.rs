//! TLS towards a real server: who is believed, who is not and what mends that, and that nothing falls back
//! to plain text.

use std::io::Write as _;
use std::sync::Arc;

use ports::commands::Commands as _;
use ports::error::StoreError;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use servers::postgres::{End, Postgres};
use servers::shared;
use storage::postgres::open;
use tempfile::NamedTempFile;

use crate::behaviours::fixtures::*;
use crate::behaviours::place::{self, Place as _};
use crate::behaviours::{Ground, Told};
use crate::lab::{Database, breathe, options};

/// The only name in the server's certificate.
const NAME: &str = "localhost";
/// Who may log in: to the database `kept` only with TLS.
const LOGINS: &str = "hostssl kept all 127.0.0.1/32 trust\nhost postgres all 127.0.0.1/32 trust\n";

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed by itself")
}

/// As a client is given it.
fn file(authority: &Authority) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a file");
    file.write_all(authority.pem().as_bytes()).expect("written");
    file
}

/// Starts the server again, with TLS.
fn secure(server: &mut Postgres, authority: &Authority) {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new([NAME.to_owned()]).expect("a name");
    let certificate = params.signed_by(&key, authority).expect("signed");
    let kept = [
        ("ssl_cert_file", server.keep("server.crt", &certificate.pem()).expect("kept")),
        ("ssl_key_file", server.keep("server.key", &key.serialize_pem()).expect("kept")),
        ("hba_file", server.keep("logins.conf", LOGINS).expect("kept")),
    ];
    let files = kept.iter().map(|(setting, path)| (*setting, path.as_str()));
    let settings: Vec<(&str, &str)> = [("ssl", "on")].into_iter().chain(files).collect();
    start_with(server, &settings);
}

fn start_with(server: &mut Postgres, settings: &[(&str, &str)]) {
    server.stop(End::Fast).expect("it ends");
    server.set(settings);
    server.start().expect("it starts");
}

/// The database by the name in the certificate.
fn by_name(url: &str) -> String {
    url.replace("127.0.0.1", NAME)
}

/// Whether connections of stores are open, and every one of them speaks TLS.
fn all_encrypted(server: &Postgres) -> bool {
    let asked = server.sql(
        "select count(*) > 1 and bool_and(s.ssl) from pg_stat_ssl s join pg_stat_activity a using (pid) \
         where a.application_name like 'viworks %'",
    );
    asked.expect("answered").trim() == "t"
}

async fn assert_refused(url: &str, cause: &str, cure: &str) {
    let refused = open(options(url), Arc::new(Told::default())).await.err().expect("refused");
    let said = refused.to_string();
    assert!(said.contains(cause) && said.contains(cure), "{url}: {said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_server_that_is_meant_is_spoken_to_and_only_with_tls() {
    let Some(mut server) = shared::own(&[]) else { return };
    let url = server.create_database("kept").expect("made");
    let (ours, other) = (authority("Ours"), authority("Another"));
    let (trusted, wrong) = (file(&ours), file(&other));
    let (trusted, wrong) = (trusted.path().display(), wrong.path().display());
    secure(&mut server, &ours);

    let full = Database::at(&format!("{}?sslmode=verify-full&sslrootcert={trusted}", by_name(&url)));
    let (Ground { store, .. }, running) = place::open(&full).await;
    let web = enrol(&store, "web-1", "eu").await;
    store.accept(command(&[&web])).await.expect("accepted");
    assert!(all_encrypted(&server));
    running.finish().await;
    // Less is known of who answers, but nobody else can listen.
    for lesser in [format!("verify-ca&sslrootcert={trusted}"), "require".to_owned(), "prefer".to_owned()] {
        let place = Database::at(&format!("{url}?sslmode={lesser}"));
        let (_ground, running) = place::open(&place).await;
        assert!(all_encrypted(&server), "{lesser}");
        running.finish().await;
    }

    let named = by_name(&url);
    for (url, cause, cure) in [
        (format!("{named}?sslmode=verify-full&sslrootcert={wrong}"), "UnknownIssuer", "database.root_certificate"),
        (format!("{named}?sslmode=verify-ca&sslrootcert={wrong}"), "UnknownIssuer", "database.root_certificate"),
        (format!("{named}?sslmode=verify-full"), "UnknownIssuer", "database.root_certificate"),
        (
            format!("{url}?sslmode=verify-full&sslrootcert={trusted}"),
            "not valid for name \"127.0.0.1\"",
            "name the server in database.url as its certificate does",
        ),
        (format!("{url}?sslmode=disable"), "no encryption", "say sslmode=verify-full in database.url"),
    ] {
        assert_refused(&url, cause, cure).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_comes_back_without_tls_is_told_nothing() {
    let Some(mut server) = shared::own(&[]) else { return };
    let url = format!("{}?sslmode=require", server.url());
    let cure = "set ssl = on in postgresql.conf on the server, or say sslmode=disable in database.url";
    assert_refused(&url, "server does not support TLS", cure).await;

    let ours = authority("Ours");
    secure(&mut server, &ours);
    let (Ground { store, .. }, _running) = place::open(&Database::at(&url)).await;
    let web = enrol(&store, "web-1", "eu").await;
    let new = command(&[&web]);
    let id = new.command.id;
    store.accept(new).await.expect("accepted");
    start_with(&mut server, &[]);
    assert!(matches!(store.accept(command(&[&web])).await, Err(StoreError::Unavailable(_))));
    assert!(matches!(store.command(id).await, Err(StoreError::Unavailable(_))));
    let logins = "select count(*) from pg_stat_activity where application_name like 'viworks %'";
    assert_eq!(server.sql(logins).expect("answered").trim(), "0");

    secure(&mut server, &ours);
    let accepting = async {
        while store.accept(command(&[&web])).await.is_err() {
            breathe().await
        }
    };
    tokio::time::timeout(place::CEILING, accepting).await.expect("accepted again");
    assert!(store.command(id).await.expect("read").is_some());
    assert!(all_encrypted(&server));
}
