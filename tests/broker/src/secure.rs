//! A broker that asks who is there: SASL, TLS and both, each on a port of its own, with certificates made for the occasion.
//!
//! Besides there is the plain port, where tests make topics and look at what is in them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::node::Setup;
use crate::{Broker, Tools};

/// Who may come in by SASL.
const USER: &str = "alice";
/// Their password. A word that stands nowhere else, so that a test finds it wherever it should not be.
const PASSWORD: &str = "xyzzy-4711-plugh";
/// The password of all key stores.
const STORE_PASSWORD: &str = "frobozz-0815-yoho";

/// The ports, in this order.
const LISTENERS: &[(&str, &str)] = &[("PASSWORD", "SASL_PLAINTEXT"), ("SERVER", "SSL"), ("MUTUAL", "SSL"), ("BOTH", "SASL_SSL")];

/// A [`Broker`] with ports for those who say who they are.
#[derive(Debug)]
pub struct SecureBroker {
    broker: Broker,
    certificates: Certificates,
}

impl SecureBroker {
    /// The one that all tests of this process share.
    pub fn shared() -> &'static SecureBroker {
        static SHARED: OnceLock<SecureBroker> = OnceLock::new();
        SHARED.get_or_init(SecureBroker::start)
    }

    /// Starts a broker and waits until it answers.
    pub fn start() -> SecureBroker {
        let certificates = Certificates::make();
        let mut properties: Vec<(String, String)> = Vec::new();
        let mut set = |listener: &str, key: &str, value: &str| {
            properties.push((format!("listener.name.{listener}.{key}"), value.to_owned()));
        };
        for listener in ["password", "both"] {
            set(listener, "sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-256");
            let users = format!("org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}=\"{PASSWORD}\";");
            set(listener, "plain.sasl.jaas.config", &users);
            let stored = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
            set(listener, "scram-sha-256.sasl.jaas.config", stored);
        }
        for listener in ["server", "mutual", "both"] {
            for (store, file) in [("keystore", &certificates.server), ("truststore", &certificates.trusted)] {
                set(listener, &format!("ssl.{store}.type"), "PKCS12");
                set(listener, &format!("ssl.{store}.location"), &file.display().to_string());
                set(listener, &format!("ssl.{store}.password"), STORE_PASSWORD);
            }
            set(listener, "ssl.client.auth", if listener == "mutual" { "required" } else { "none" });
        }
        let scram = format!("SCRAM-SHA-256=[name={USER},password={PASSWORD}]");
        let format = vec!["--add-scram".into(), scram];
        let broker = Broker::set_up(&Setup { properties, listeners: LISTENERS.to_vec(), format });
        SecureBroker { broker, certificates }
    }

    /// `host:port` for those whom nobody asks.
    pub fn plain(&self) -> String {
        self.broker.bootstrap()
    }

    /// `host:port` of `SASL_PLAINTEXT`, with PLAIN and SCRAM-SHA-256.
    pub fn password(&self) -> String {
        self.broker.0.address(1)
    }

    /// `host:port` of `SSL`, where only the broker says who it is.
    pub fn server(&self) -> String {
        self.broker.0.address(2)
    }

    /// `host:port` of `SSL`, where clients have a certificate.
    pub fn mutual(&self) -> String {
        self.broker.0.address(3)
    }

    /// `host:port` of `SASL_SSL`, with PLAIN and SCRAM-SHA-256.
    pub fn both(&self) -> String {
        self.broker.0.address(4)
    }

    /// Who may come in by SASL, and the password.
    pub fn user(&self) -> (&'static str, &'static str) {
        (USER, PASSWORD)
    }

    /// What the broker shows, and what clients may show.
    pub fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// Kafka's command-line tools, for the plain port.
    pub fn tools(&self) -> Tools {
        self.broker.tools()
    }
}

/// Certificates and keys in a folder that goes when this does.
#[derive(Debug)]
pub struct Certificates {
    /// The authority that signed the broker's certificate and that of the client, as PEM.
    pub authority: PathBuf,
    /// Another authority, as PEM.
    pub stranger: PathBuf,
    /// The client's certificate and key, as PKCS #12.
    pub client: PathBuf,
    /// The broker's.
    server: PathBuf,
    /// The authority, as PKCS #12.
    trusted: PathBuf,
    _folder: tempfile::TempDir,
}

impl Certificates {
    /// Makes them with the `keytool` that Java brings.
    pub fn make() -> Certificates {
        let folder = tempfile::Builder::new().prefix("highwater-certificates-").tempdir().expect("a folder for certificates");
        let all = folder.path().join("all.p12");
        let authority = ["-ext", "bc:critical=ca:true", "-ext", "ku:critical=keyCertSign"];
        generate(&all, "authority", &authority);
        generate(&all, "stranger", &authority);
        generate(&all, "server", &["-signer", "authority", "-ext", "san=ip:127.0.0.1,dns:localhost", "-ext", "eku=serverAuth"]);
        generate(&all, "client", &["-signer", "authority", "-ext", "eku=clientAuth"]);
        let pem = |alias: &str| {
            let file = folder.path().join(format!("{alias}.pem"));
            keytool(&all, &["-exportcert", "-rfc", "-alias", alias, "-file", &text(&file)]);
            file
        };
        let (authority, stranger) = (pem("authority"), pem("stranger"));
        let own = |alias: &str| {
            let file = folder.path().join(format!("{alias}.p12"));
            let from = ["-srckeystore", &text(&all), "-srcstorepass", STORE_PASSWORD, "-srcalias", alias];
            keytool(&file, &[&["-importkeystore"][..], &from].concat());
            file
        };
        let (client, server) = (own("client"), own("server"));
        let trusted = folder.path().join("trusted.p12");
        keytool(&trusted, &["-importcert", "-alias", "authority", "-file", &text(&authority)]);
        Certificates { authority, stranger, client, server, trusted, _folder: folder }
    }

    /// The password of [`Certificates::client`].
    pub fn password(&self) -> &'static str {
        STORE_PASSWORD
    }
}

fn generate(store: &Path, alias: &str, more: &[&str]) {
    let key = ["-genkeypair", "-alias", alias, "-keyalg", "EC", "-groupname", "secp256r1", "-validity", "2"];
    let name = format!("CN={alias}");
    keytool(store, &[&key[..], &["-dname", &name], more].concat());
}

fn keytool(store: &Path, arguments: &[&str]) {
    let mut command = Command::new("keytool");
    command.args(arguments).args(["-noprompt", "-keystore", &text(store)]);
    command.args(["-storepass", STORE_PASSWORD]);
    let output = command.output().unwrap_or_else(|error| panic!("running keytool, which comes with Java: {error}"));
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "keytool {arguments:?}:\n{}", String::from_utf8_lossy(&said));
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
