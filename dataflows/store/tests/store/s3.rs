//! The store in an S3 server that is not ours: `moto`, from PyPI (`pip install 'moto[server]'`).

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use highwater_store::{Kind, Span, Store};

use super::crashes::folder;
use super::*;

/// A server, which ends with the test.
struct Server {
    process: Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Server {
    fn start() -> Server {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".into());
        let process = Command::new(&python)
            .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{python} does not start: {error}"));
        let mut server = Server { process, port };
        let deadline = Instant::now() + Duration::from_secs(180);
        while server.request("PUT", "/bucket").is_none_or(|answer| !answer.starts_with("HTTP/1.1 200")) {
            let ended = server.process.try_wait().unwrap();
            assert!(ended.is_none(), "moto does not run: pip install 'moto[server]', or name the Python that has it in PYTHON");
            assert!(Instant::now() < deadline, "moto does not answer");
            std::thread::sleep(Duration::from_millis(50));
        }
        server
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

    fn store(&self, create: bool) -> Result<Store> {
        let endpoint = format!("http://127.0.0.1:{}", self.port);
        let options = [
            ("aws_endpoint", endpoint.as_str()),
            ("aws_allow_http", "true"),
            ("aws_region", "us-east-1"),
            ("aws_access_key_id", "test"),
            ("aws_secret_access_key", "test"),
        ];
        let open = if create { Store::create_with } else { Store::open_with };
        open("s3://bucket/some/prefix", &options)
    }
}

#[test]
fn a_bucket_is_a_store() {
    let server = Server::start();
    assert!(matches!(server.store(false), Err(StoreError::NotAStore { .. })));
    let job = server.store(true).unwrap().job("orders").unwrap();
    assert_eq!(job.latest().unwrap(), None);
    let writer = job.claim(options(1)).unwrap();
    for epoch in 1..=4 {
        writer.commit(increment(epoch, vec![section("k", [("a", 1)])])).unwrap();
    }
    writer.savepoint("nightly").unwrap();
    writer.compact(Span::All, &*folder()).unwrap().unwrap();
    writer.commit(increment(5, vec![section("k", [("a", 1)])])).unwrap();
    assert_eq!(newest(&job).unwrap().1["k"]["a"], 5);

    // Put-if-absent is what fences.
    let second = server.store(false).unwrap().job("orders").unwrap().claim(options(2)).unwrap();
    assert!(matches!(writer.commit(increment(6, vec![section("k", [("wrong", 1)])])), Err(StoreError::Fenced { .. })));

    // A file of several parts, and a copy of it under another job's name.
    let mut seed = 1u64;
    let numbers = (0..10 << 17).map(|_| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed as i64
    });
    let numbers: arrow::array::ArrayRef = Arc::new(Int64Array::from_iter_values(numbers));
    let batch = RecordBatch::try_from_iter([("n", numbers)]).unwrap();
    let large = Section::new("large", batch.schema(), vec![batch]);
    let manifest = second.commit(increment(7, vec![large.clone()])).unwrap();
    let other = server.store(false).unwrap().job("copy").unwrap();
    other.claim(options(3)).unwrap().adopt(&job, &manifest).unwrap();
    let read = other.read(&other.latest().unwrap().unwrap(), ReadOptions::default().only(|key| key == "large"));
    assert_eq!(read.unwrap().map(|section| section.unwrap()).collect::<Vec<_>>(), [large]);

    for epoch in 8..=12 {
        let checkpoint = Checkpoint { keep: Keep::None, ..increment(epoch, vec![section("k", [("a", 1)])]) };
        second.commit(checkpoint).unwrap();
    }
    let kinds: Vec<Option<Kind>> = job.list().unwrap().into_iter().map(|info| info.kind).collect();
    let nightly = Kind::Savepoint { name: "nightly".into() };
    assert_eq!(kinds, [Some(Kind::Checkpoint), Some(Kind::Checkpoint), Some(Kind::Checkpoint), Some(nightly)]);
    assert_eq!(state_of(&job, &job.at("nightly").unwrap()).unwrap()["k"]["a"], 4);
    assert_eq!(server.store(false).unwrap().jobs().unwrap(), ["copy", "orders"]);

    // What is removed is missed.
    let newest = job.latest().unwrap().unwrap();
    let path = format!("/bucket/some/prefix/jobs/orders/{}", newest.files[0].path);
    let answer = server.request("DELETE", &path).unwrap();
    assert!(answer.starts_with("HTTP/1.1 20"), "{path}: {answer}");
    let error = job.latest().unwrap_err();
    assert!(matches!(error, StoreError::Missing { .. }) && error.to_string().contains(&newest.files[0].path), "{error}");
}
