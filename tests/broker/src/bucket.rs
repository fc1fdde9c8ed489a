//! An S3 server that is not ours: `moto`, from PyPI.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(180);

/// A server with an empty bucket, `s3://bucket`, which ends when this is dropped.
#[derive(Debug)]
pub struct Bucket {
    process: Child,
    port: u16,
}

impl Drop for Bucket {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Bucket {
    /// Starts one, with the Python that `PYTHON` names, or `python3`.
    pub fn start() -> Bucket {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port();
        let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".into());
        let process = Command::new(&python)
            .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{python} does not start: {error}"));
        let mut bucket = Bucket { process, port };
        let started = Instant::now();
        while bucket.request("PUT", "/bucket").is_none_or(|answer| !answer.starts_with("HTTP/1.1 200")) {
            let ended = bucket.process.try_wait().expect("it is our child");
            assert!(ended.is_none(), "moto does not run: pip install 'moto[server]', or name the Python that has it in PYTHON");
            assert!(started.elapsed() < PATIENCE, "moto does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
        bucket
    }

    /// How it is reached: options of an object store, which are variables of the environment in capitals.
    pub fn options(&self) -> [(&'static str, String); 5] {
        [
            ("aws_endpoint", format!("http://127.0.0.1:{}", self.port)),
            ("aws_allow_http", "true".to_owned()),
            ("aws_region", "us-east-1".to_owned()),
            ("aws_access_key_id", "test".to_owned()),
            ("aws_secret_access_key", "test".to_owned()),
        ]
    }

    /// Deletes a file, behind everybody's back.
    pub fn delete(&self, path: &str) {
        let answer = self.request("DELETE", &format!("/bucket/{path}")).expect("it runs");
        assert!(answer.starts_with("HTTP/1.1 20"), "{path}: {answer}");
    }

    fn request(&self, method: &str, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        // Moto wants to see a signature and does not check it.
        let signed = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";
        let headers = format!("Host: 127.0.0.1\r\nAuthorization: {signed}\r\nContent-Length: 0\r\nConnection: close");
        let request = format!("{method} {path} HTTP/1.1\r\n{headers}\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }
}
