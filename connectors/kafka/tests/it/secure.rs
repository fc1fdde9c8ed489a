//! Brokers that ask who is there: by a password, by certificates (in a build with TLS), by both.

use highwater_broker::SecureBroker;
use highwater_connectors::sink::SinkConnector;
use highwater_connectors::source::SourceConnector;
use highwater_kafka::{KafkaSink, KafkaSource};
use highwater_plan::Diagnostic;

use crate::sink::{epoch, publisher, spec};
use crate::support::{Reading, Stand, open, refused, source_spec, topic, unique, values};

type Properties<'a> = Vec<(&'a str, &'a str)>;

/// Options of a user with this password.
fn user<'a>(protocol: &'a str, mechanism: &'a str, password: &'a str) -> Properties<'a> {
    vec![
        ("properties.security.protocol", protocol),
        ("properties.sasl.mechanism", mechanism),
        ("properties.sasl.username", "alice"),
        ("properties.sasl.password", password),
    ]
}

/// Publishes through a port exactly once, takes over, publishes on, and reads it all back through the same port.
fn there_and_back(broker: &SecureBroker, port: &str, properties: &[(&str, &str)]) {
    let plain = broker.plain();
    let (topic, job) = (topic(&plain, "secure", 2), unique("job"));
    let spec = spec(port, &topic, &job, &[&[("delivery", "exactly_once")], properties].concat());
    KafkaSink.validate(&spec).unwrap();
    let mut first = publisher(&spec);
    assert_eq!(first.take_over(), Ok(None));
    first.publish(&[epoch(1, &[(1, "a", 1), (2, "b", 1)])], 1).unwrap();
    let mut second = publisher(&spec);
    assert_eq!(second.take_over(), Ok(Some(1)));
    second.publish(&[epoch(1, &[(1, "a", 1), (2, "b", 1)]), epoch(2, &[(3, "c", 1)])], 2).unwrap();
    assert!(first.publish(&[epoch(2, &[(9, "z", 1)])], 2).is_err_and(|error| error.fatal), "it is fenced");
    let source = open(port, &topic, properties);
    let mut ids = Vec::new();
    for partition in ["0", "1"] {
        let mut reading = Reading::of(&*source, partition, None);
        reading.until(Stand::AtEnd);
        ids.extend(reading.ids);
    }
    ids.sort_unstable();
    assert_eq!(ids, [1, 2, 3]);
    // Somebody else sees the same.
    assert_eq!(values(&plain, &topic, "read_committed").len(), 3);
}

/// What source and sink say of these options, without what must not be said.
fn said_of(port: &str, topic: &str, properties: &[(&str, &str)]) -> [Diagnostic; 2] {
    let of_source = refused(&source_spec(port, topic, properties));
    let of_sink = KafkaSink.validate(&spec(port, topic, "job", properties)).unwrap_err();
    let opened = KafkaSink.open(&spec(port, topic, "job", properties)).err().unwrap();
    assert_eq!(opened.code, of_sink.code);
    for said in [&of_source, &of_sink] {
        let text = format!("{said:?} {said}");
        assert!(said.code == "invalid-option" || text.contains(port), "{text}");
        for (key, secret) in properties.iter().filter(|(key, _)| highwater_plan::is_secret(key)) {
            assert!(!text.contains(secret), "{key} in {text}");
        }
    }
    assert!(of_source.message.starts_with("source 's'"), "{of_source}");
    assert!(of_sink.message.starts_with("sink 'out'"), "{of_sink}");
    [of_source, of_sink]
}

#[test]
fn a_password_lets_in() {
    let broker = SecureBroker::shared();
    let (_, password) = broker.user();
    there_and_back(broker, &broker.password(), &user("sasl_plaintext", "PLAIN", password));
}

#[test]
fn a_wrong_password_is_told_at_once() {
    let broker = SecureBroker::shared();
    let topic = topic(&broker.plain(), "refused", 1);
    let begun = std::time::Instant::now();
    for said in said_of(&broker.password(), &topic, &user("sasl_plaintext", "PLAIN", "wrong-one-987")) {
        assert_eq!(said.code, "authentication-failed");
        assert!(said.message.contains("as user 'alice'"), "{said}");
        assert!(said.message.contains("Invalid username or password"), "{said}");
        assert!(said.help.as_deref().unwrap().contains("properties.sasl.password"), "{said}");
    }
    // Four times the second that other brokers are given, and not the ten that a broker that is away is.
    assert!(begun.elapsed().as_secs() < 30, "{:?}", begun.elapsed());
}

#[test]
fn a_mechanism_that_the_broker_does_not_have_is_told() {
    let broker = SecureBroker::shared();
    let topic = topic(&broker.plain(), "mechanism", 1);
    let without_tls = !cfg!(feature = "tls");
    let said = said_of(&broker.password(), &topic, &user("sasl_plaintext", "SCRAM-SHA-512", "abc-123-def"));
    for said in said {
        if without_tls {
            assert!(said.message.contains("sasl.mechanism = 'SCRAM-SHA-512' needs TLS"), "{said}");
        } else {
            assert_eq!(said.code, "authentication-failed", "{said}");
            assert!(said.message.contains("PLAIN") && said.message.contains("SCRAM-SHA-256"), "what it has: {said}");
        }
    }
}

#[test]
fn nobody_comes_in_without_a_password() {
    let broker = SecureBroker::shared();
    let topic = topic(&broker.plain(), "nobody", 1);
    // The sink's statement may be looked at where no broker is: only opening it says this.
    let said = refused(&source_spec(&broker.password(), &topic, &[]));
    assert_eq!(said.code, "broker-unreachable", "{said}");
    // It hangs up, which is seen in more ways than one.
    assert!(said.message.contains(&format!("({}/bootstrap: ", broker.password())), "{said}");
    assert!(said.help.as_deref().unwrap().contains("properties.security.protocol"), "{said}");
}

#[test]
fn passwords_may_be_looked_up() {
    let broker = SecureBroker::shared();
    let plain = broker.plain();
    let topic = topic(&plain, "referred", 1);
    let folder = std::env::temp_dir().join(unique("highwater-secret"));
    std::fs::write(&folder, broker.user().1.to_owned() + "\n").unwrap();
    let reference = format!("${{file:{}}}", folder.display());
    let spec = source_spec(&broker.password(), &topic, &user("sasl_plaintext", "PLAIN", &reference));
    let mut reading = Reading::of(&*KafkaSource.open(&spec).unwrap(), "0", None);
    reading.until(Stand::AtEnd);
    std::fs::remove_file(&folder).unwrap();
    let said = refused(&spec);
    assert_eq!(said.code, "missing-secret");
    assert!(said.message.contains("'properties.sasl.password' refers to the file"), "{said}");
}

#[cfg(not(feature = "tls"))]
#[test]
fn without_tls_it_says_so() {
    for protocol in ["ssl", "SASL_SSL"] {
        for said in said_of("127.0.0.1:1", "t", &[("properties.security.protocol", protocol)]) {
            assert_eq!(said.code, "invalid-option");
            let message = format!("security.protocol = '{protocol}' needs TLS, which this binary was built without");
            assert!(said.message.contains(&message), "{said}");
            assert!(said.help.as_deref().unwrap().contains("--features tls"), "{said}");
        }
    }
}

#[cfg(feature = "tls")]
mod tls {
    use std::process::Command;

    use super::*;

    fn path(path: &std::path::Path) -> &str {
        path.to_str().unwrap()
    }

    #[test]
    fn the_broker_shows_its_certificate() {
        let broker = SecureBroker::shared();
        let authority = path(&broker.certificates().authority);
        let properties = [("properties.security.protocol", "ssl"), ("properties.ssl.ca.location", authority)];
        there_and_back(broker, &broker.server(), &properties);
    }

    #[test]
    fn both_show_their_certificates() {
        let broker = SecureBroker::shared();
        let certificates = broker.certificates();
        let trust = [("properties.security.protocol", "ssl"), ("properties.ssl.ca.location", path(&certificates.authority))];
        let store = [
            ("properties.ssl.keystore.location", path(&certificates.client)),
            ("properties.ssl.keystore.password", certificates.password()),
        ];
        there_and_back(broker, &broker.mutual(), &[trust, store].concat());
        // And without one.
        let topic = topic(&broker.plain(), "unshown", 1);
        let said = refused(&source_spec(&broker.mutual(), &topic, &trust));
        assert!(said.message.contains(&broker.mutual()), "{said}");
        assert_eq!(said.code, "tls-failed", "{said}");
        assert!(said.help.as_deref().unwrap().contains("properties.ssl.keystore.location"), "{said}");
    }

    #[test]
    fn what_is_in_no_binary_is_told() {
        let oidc = [
            ("properties.security.protocol", "sasl_ssl"),
            ("properties.sasl.mechanism", "OAUTHBEARER"),
            ("properties.sasl.oauthbearer.method", "oidc"),
        ];
        for said in said_of("127.0.0.1:1", "t", &oidc) {
            assert!(said.message.contains("sasl.oauthbearer.method"), "{said}");
            assert!(said.help.as_deref().unwrap().contains("this binary has TLS"), "{said}");
        }
    }

    #[test]
    fn certificates_may_be_pem() {
        let broker = SecureBroker::shared();
        let certificates = broker.certificates();
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (format!("pass:{}", certificates.password()), "pass:for-the-key-88");
        let pem = |name: &str, what: &[&str]| {
            let file = folder.path().join(name);
            let mut openssl = Command::new("openssl");
            openssl.args(["pkcs12", "-in", path(&certificates.client), "-passin", &from, "-out", path(&file)]).args(what);
            let output = openssl.output().unwrap_or_else(|error| panic!("openssl, which is in its package: {error}"));
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            file
        };
        let (certificate, key) = (pem("client.pem", &["-nokeys", "-clcerts"]), pem("client.key", &["-nocerts", "-passout", to]));
        let mut properties = vec![
            ("properties.security.protocol", "ssl"),
            ("properties.ssl.ca.location", path(&certificates.authority)),
            ("properties.ssl.certificate.location", path(&certificate)),
            ("properties.ssl.key.location", path(&key)),
            ("properties.ssl.key.password", "for-the-key-88"),
        ];
        there_and_back(broker, &broker.mutual(), &properties);
        properties[4].1 = "not-that-one-66";
        for said in said_of(&broker.mutual(), "t", &properties) {
            assert!(said.message.contains("ssl.key.location"), "{said}");
        }
    }

    #[test]
    fn a_key_store_that_does_not_open_is_told_without_its_password() {
        let broker = SecureBroker::shared();
        let store = [
            ("properties.security.protocol", "ssl"),
            ("properties.ssl.keystore.location", path(&broker.certificates().client)),
            ("properties.ssl.keystore.password", "not-that-one-55"),
        ];
        for said in said_of(&broker.mutual(), "t", &store) {
            assert!(said.message.contains("ssl.keystore.location"), "{said}");
        }
    }

    #[test]
    fn scram_over_tls() {
        let broker = SecureBroker::shared();
        let trust = ("properties.ssl.ca.location", path(&broker.certificates().authority));
        let mut properties = user("sasl_ssl", "SCRAM-SHA-256", broker.user().1);
        properties.push(trust);
        there_and_back(broker, &broker.both(), &properties);
        let topic = topic(&broker.plain(), "unscrambled", 1);
        let mut wrong = user("sasl_ssl", "SCRAM-SHA-256", "wrong-one-654");
        wrong.push(trust);
        for said in said_of(&broker.both(), &topic, &wrong) {
            assert_eq!(said.code, "authentication-failed", "{said}");
        }
        there_and_back(broker, &broker.password(), &user("sasl_plaintext", "SCRAM-SHA-256", broker.user().1));
    }

    #[test]
    fn a_broker_of_another_authority_is_not_talked_to() {
        let broker = SecureBroker::shared();
        let topic = topic(&broker.plain(), "untrusted", 1);
        let stranger = path(&broker.certificates().stranger);
        let properties = [("properties.security.protocol", "ssl"), ("properties.ssl.ca.location", stranger)];
        for said in said_of(&broker.server(), &topic, &properties) {
            assert_eq!(said.code, "tls-failed", "{said}");
            assert!(said.message.contains("certificate verify failed"), "{said}");
            assert!(said.help.as_deref().unwrap().contains("properties.ssl.ca.location"), "{said}");
        }
    }

    #[test]
    fn a_port_without_tls_is_told() {
        let broker = SecureBroker::shared();
        let topic = topic(&broker.plain(), "plainly", 1);
        let authority = path(&broker.certificates().authority);
        let properties = [("properties.security.protocol", "ssl"), ("properties.ssl.ca.location", authority)];
        let said = refused(&source_spec(&broker.plain(), &topic, &properties));
        assert!(said.message.contains("SSL handshake failed"), "{said}");
    }
}
