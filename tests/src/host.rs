//! A real host on a temporary folder.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::client::Api;
use crate::namespaces::Namespace;
use crate::process::Process;
use crate::programs::{exec_plugin, plugin, program};
use crate::store::Store;
use crate::wait::{until, until_within};

/// Longest a host may take to be ready, or to take a plugin over: it compiles them, beside all else that the machine does.
const READY_WITHIN: Duration = Duration::from_secs(180);

/// One host. Dropped, it is killed.
pub struct TestHost {
    dir: tempfile::TempDir,
    store: Store,
    address: Ipv4Addr,
    ports: (u16, u16),
    /// More lines of `[plugins]`.
    plugin_settings: String,
    /// More sections, and whether they turn TLS on.
    sections: String,
    /// More lines of `[server]`.
    server_settings: String,
    tls: Option<Tls>,
    log_level: &'static str,
    /// What its program is started with.
    starter: Vec<String>,
    process: Option<Process>,
}

/// How a host's TLS is believed.
#[derive(Clone)]
pub enum Tls {
    /// Its certificate is its own; agents get the pin with the token.
    SelfSigned,
    /// This PEM file's authority signed it.
    SignedBy(PathBuf),
}

impl TestHost {
    /// Starts one with the exec plugin on the embedded store and waits until it can take work.
    pub async fn start() -> TestHost {
        TestHost::start_on(Store::Sqlite).await
    }

    /// Starts one with the exec plugin on this store and waits until it can take work.
    pub async fn start_on(store: Store) -> TestHost {
        let mut host = TestHost::new_on(store);
        host.launch().await;
        host
    }

    /// One on the embedded store that has not been started.
    ///
    /// # Panics
    /// When its folder cannot be made.
    #[expect(clippy::new_without_default, reason = "every call makes a folder")]
    pub fn new() -> TestHost {
        TestHost::new_on(Store::Sqlite)
    }

    /// One on this store that has not been started.
    ///
    /// # Panics
    /// When its folder cannot be made.
    pub fn new_on(store: Store) -> TestHost {
        let dir = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(dir.path().join("plugins")).expect("a plugin folder");
        // An address of its own, so that its ports are free again after a restart.
        let address =
            Ipv4Addr::new(127, rand::random_range(1..=254), rand::random_range(1..=254), rand::random_range(1..=254));
        let host = TestHost {
            dir,
            store,
            address,
            ports: (0, 0),
            plugin_settings: String::new(),
            sections: String::new(),
            server_settings: String::new(),
            tls: None,
            log_level: "info",
            starter: Vec::new(),
            process: None,
        };
        host.install("exec.wasm", exec_plugin());
        host
    }

    /// One more on the same store, with the same keys, that has not been started.
    ///
    /// # Panics
    /// When the keys cannot be copied.
    pub fn beside(&self) -> TestHost {
        let other = TestHost::new_on(self.store.clone());
        let keys = other.data().join("keys");
        std::fs::create_dir_all(&keys).expect("a folder for keys");
        for file in std::fs::read_dir(self.data().join("keys")).expect("keys").filter_map(Result::ok) {
            std::fs::copy(file.path(), keys.join(file.file_name())).expect("a key is copied");
        }
        std::fs::copy(self.credential_file(), other.credential_file()).expect("the credential is copied");
        other
    }

    /// One more on the same store by another way, with the same keys, that has not been started.
    ///
    /// # Panics
    /// When the keys cannot be copied.
    pub fn beside_by(&self, store: Store) -> TestHost {
        TestHost { store, ..self.beside() }
    }

    /// It runs inside from its next start on.
    pub fn place_in(&mut self, namespace: &Namespace) {
        self.address = namespace.address();
        self.starter = namespace.starter();
        self.server_settings.push_str("insecure_plaintext = true\n");
    }

    /// Lines of `[plugins]` it is started with from now on.
    pub fn set_plugins(&mut self, lines: &str) {
        lines.clone_into(&mut self.plugin_settings);
    }

    /// Further sections it is started with from now on.
    pub fn set_sections(&mut self, text: &str) {
        text.clone_into(&mut self.sections);
    }

    /// Lines of `[server]` it is started with from now on.
    pub fn set_server(&mut self, lines: &str) {
        lines.clone_into(&mut self.server_settings);
    }

    /// It speaks TLS as `sections` say from its next start on.
    pub fn set_tls(&mut self, tls: Tls, sections: &str) {
        self.tls = Some(tls);
        self.set_sections(sections);
    }

    /// How agents' TLS believes it.
    pub fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// The address its ports are on.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Nobody, at its API.
    ///
    /// # Panics
    /// When there is no certificate to believe.
    pub fn nobody(&self) -> Api {
        let file = match &self.tls {
            None => return Api::anonymous(&self.url()),
            Some(Tls::SelfSigned) => self.data().join("tls.crt"),
            Some(Tls::SignedBy(authority)) => authority.clone(),
        };
        Api::believing(&self.url(), &std::fs::read(file).expect("a certificate"))
    }

    /// How much it says from its next start on.
    pub fn set_log_level(&mut self, level: &'static str) {
        self.log_level = level;
    }

    /// Starts it, on the ports it had before, and waits until it can take work.
    ///
    /// # Panics
    /// When it is not ready in time.
    pub async fn launch(&mut self) {
        let listening = self.data().join("listening.json");
        // A host that was killed could not take it back.
        let _ = std::fs::remove_file(&listening);
        let config = self.dir.path().join("host.toml");
        std::fs::write(&config, self.configuration()).expect("the configuration is written");
        let mut words = self.starter.iter().map(Into::into).chain([program("viworks-host").into_os_string()]);
        let mut serve = Command::new(words.next().expect("a program"));
        serve.args(words).args(["serve", "--config"]).arg(&config).current_dir(self.dir.path());
        let mut process = Process::start(&mut serve, &self.dir.path().join("host.log"));
        let ready = until_within(READY_WITHIN, "the host listens", async || {
            process.assert_alive();
            let text = std::fs::read_to_string(&listening).ok()?;
            let at: Value = serde_json::from_str(&text).ok()?;
            Some((port(&at["api"]), port(&at["agents"])))
        });
        self.ports = ready.await;
        self.process = Some(process);
        let nobody = self.nobody();
        until_within(READY_WITHIN, "the host is ready", async || {
            let response = nobody.request(Method::GET, "/readyz").send().await.ok()?;
            response.status().is_success().then_some(())
        })
        .await;
        let admin = self.admin().await;
        until_within(READY_WITHIN, "the host serves exec.run", async || {
            (admin.get("/api/v1/verbs/exec.run").await.status == 200).then_some(())
        })
        .await;
    }

    /// What it says when it is started and ends at once.
    ///
    /// # Panics
    /// When it starts.
    pub fn refuses_to_start(&self) -> String {
        let config = self.dir.path().join("host.toml");
        std::fs::write(&config, self.configuration()).expect("the configuration is written");
        let mut serve = Command::new(program("viworks-host"));
        serve.args(["serve", "--config"]).arg(&config).current_dir(self.dir.path());
        let done = serve.output().expect("the program starts");
        assert!(!done.status.success(), "it starts");
        String::from_utf8_lossy(&done.stderr).into_owned()
    }

    fn configuration(&self) -> String {
        let (api, agents) = self.ports;
        let text = |path: PathBuf| toml::Value::from(path.display().to_string()).to_string();
        format!(
            "[server]\nbind = \"{address}:{api}\"\nagents_bind = \"{address}:{agents}\"\nallowed_hosts = [\"{address}\"]\n{server}\n\
             [database]\nurl = \"{url}\"\n[data]\ndir = {data}\n\
             [plugins]\ndir = {plugins}\ndefault_grants = \"requested\"\n{settings}{sections}[logging]\nlevel = \"{level}\"\nformat = \"json\"\n",
            address = self.address,
            url = self.store.url(),
            data = text(self.data()),
            plugins = text(self.plugins()),
            settings = self.plugin_settings,
            sections = self.sections,
            server = self.server_settings,
            level = self.log_level,
        )
    }

    /// `kill -9`.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill9(&mut self) {
        self.process.take().expect("the host runs").kill9();
    }

    /// SIGTERM; how it ended.
    ///
    /// # Panics
    /// When it does not run, or does not end.
    pub async fn stop(&mut self) -> ExitStatus {
        self.process.take().expect("the host runs").terminate().await
    }

    fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// Where the API listens.
    pub fn url(&self) -> String {
        format!("{}://{}:{}", self.scheme(), self.address, self.ports.0)
    }

    /// Where agents connect.
    pub fn agents_url(&self) -> String {
        format!("{}://{}:{}", self.scheme(), self.address, self.ports.1)
    }

    /// Where the API listens.
    pub fn api_address(&self) -> SocketAddr {
        SocketAddr::from((self.address, self.ports.0))
    }

    /// Stops it where it stands, or lets it go on.
    ///
    /// # Panics
    /// When it does not run.
    pub fn freeze(&self, frozen: bool) {
        use nix::sys::signal::{Signal, kill};
        let signal = if frozen { Signal::SIGSTOP } else { Signal::SIGCONT };
        kill(nix::unistd::Pid::from_raw(self.pid()), signal).expect("it runs");
    }

    /// Where agents connect.
    pub fn agents_address(&self) -> SocketAddr {
        SocketAddr::from((self.address, self.ports.1))
    }

    /// Has it look at files it follows at once.
    ///
    /// # Panics
    /// When it does not run.
    pub fn hang_up(&self) {
        let pid = nix::unistd::Pid::from_raw(self.pid());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGHUP).expect("it runs");
    }

    /// Its process id.
    ///
    /// # Panics
    /// When it does not run.
    pub fn pid(&self) -> i32 {
        self.process.as_ref().expect("the host runs").pid()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("host.log")).unwrap_or_default()
    }

    /// Its data folder.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Its plugin folder.
    pub fn plugins(&self) -> PathBuf {
        self.dir.path().join("plugins")
    }

    /// Builds `plugins/NAME` and puts it in place.
    ///
    /// # Panics
    /// When it cannot be built.
    pub async fn put_plugin(&self, name: &str) {
        let owned = name.to_owned();
        // A build takes its time, and this thread has connections to look after meanwhile.
        let built = tokio::task::spawn_blocking(move || plugin(&owned)).await.expect("the build ends");
        self.install(&format!("{name}.wasm"), built);
    }

    /// Waits until the host serves the plugin.
    ///
    /// # Panics
    /// When it refuses it.
    pub async fn serves_plugin(&self, admin: &Api, name: &str) {
        until_within(READY_WITHIN, &format!("the host serves plugin `{name}`"), async || {
            let plugins = admin.get("/api/v1/plugins").await.expect(200);
            let file = format!("{name}.wasm");
            let found = plugins["items"].as_array()?.iter().find(|plugin| plugin["file"] == *file)?;
            assert!(found["refusal"].is_null(), "{found:#}");
            // An update is on probation for its first minutes.
            (found["state"] == "active" || found["state"] == "probation").then_some(())
        })
        .await;
    }

    /// Puts a plugin file in place as an operator should: whole, by one rename.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn install(&self, name: &str, bytes: &[u8]) {
        let beside = self.dir.path().join(name);
        std::fs::write(&beside, bytes).expect("a file beside the folder");
        std::fs::rename(&beside, self.plugins().join(name)).expect("a rename into the folder");
    }

    /// The first administrator's credential file.
    pub fn credential_file(&self) -> PathBuf {
        self.data().join("admin.json")
    }

    /// The first administrator, logged in.
    ///
    /// # Panics
    /// When the credential does not work.
    pub async fn admin(&self) -> Api {
        let text = std::fs::read_to_string(self.credential_file()).expect("admin.json");
        let credential = serde_json::from_str(&text).expect("JSON");
        self.nobody().login(&credential).await
    }

    /// The password of a user that [`user`](Self::user) makes.
    pub fn password(name: &str) -> String {
        format!("{name} waits for nobody")
    }

    /// A new user, logged in.
    ///
    /// # Panics
    /// When the host refuses.
    pub async fn user(&self, admin: &Api, name: &str, role: &str) -> Api {
        let password = TestHost::password(name);
        let body = json!({ "name": name, "password": password, "role": role });
        let made = admin.post("/api/v1/users", &body).await;
        if made.status == 503 {
            // A database that a busy disk holds up for long: whether it was made all the same is looked up, as is asked.
            until("the user is made", async || {
                let found = admin.get(&format!("/api/v1/users/{name}")).await.status == 200;
                (found || admin.post("/api/v1/users", &body).await.status == 201).then_some(())
            })
            .await;
        } else {
            made.expect(201);
        }
        self.nobody().login(&json!({ "name": name, "password": password })).await
    }

    /// Waits until the plugin file's refusal has this code, or until it has none; the plugin.
    ///
    /// # Panics
    /// When that does not happen.
    pub async fn plugin_refused(&self, admin: &Api, name: &str, code: Option<&str>) -> Value {
        until(&format!("plugin `{name}` has the refusal {code:?}"), async || {
            let plugins = admin.get("/api/v1/plugins").await.expect(200);
            let file = format!("{name}.wasm");
            let found = plugins["items"].as_array()?.iter().find(|plugin| plugin["file"] == *file)?.clone();
            (found["refusal"]["code"].as_str() == code).then_some(found)
        })
        .await
    }

    /// A folder of this host's that tests may write to.
    pub fn scratch(&self) -> &Path {
        self.dir.path()
    }
}

fn port(address: &Value) -> u16 {
    let port = address.as_str().and_then(|text| text.rsplit_once(':')).and_then(|(_, port)| port.parse().ok());
    port.unwrap_or_else(|| panic!("listening.json holds no address: {address}"))
}
