//! One broker process: its configuration, its start, its end.
//!
//! A shell stands between this process and Java and reads from a pipe that only this process holds: when the process ends,
//! however it ends, the pipe closes, and the shell kills Java and removes its folder. (`PR_SET_PDEATHSIG` would tie the
//! broker to the *thread* that started it, and a test's thread ends with the test.)

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::jars;

/// How long a broker may take to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);

/// `keep` on standard input: kill; its end: kill and remove the folder, the first argument.
const KEEPER: &str = r#"folder=$1; shift
"$@" </dev/null & java=$!
read -r word
kill -9 $java; wait $java 2>/dev/null
[ "$word" = keep ] || rm -rf "$folder""#;

/// What is asked for besides nodes that listen in plain text.
#[derive(Debug, Default)]
pub(crate) struct Setup {
    /// Lines of `server.properties`.
    pub(crate) properties: Vec<(String, String)>,
    /// Further listeners: name and protocol.
    pub(crate) listeners: Vec<(&'static str, &'static str)>,
    /// Arguments for formatting the storage.
    pub(crate) format: Vec<String>,
}

/// A broker that is also a controller.
#[derive(Debug)]
pub(crate) struct Node {
    folder: PathBuf,
    class_path: String,
    /// Of the plain listener, and of those of the [`Setup`].
    ports: Vec<u16>,
    keeper: Option<Child>,
}

/// Starts nodes that form one cluster, and waits until all answer.
pub(crate) fn start(nodes: usize, setup: &Setup) -> Vec<Node> {
    let class_path = jars::class_path();
    // All ports are taken at once, so that no two are the same.
    let each = 2 + setup.listeners.len();
    let listeners: Vec<TcpListener> =
        (0..each * nodes).map(|_| TcpListener::bind("127.0.0.1:0").expect("the loopback address has free ports")).collect();
    let ports: Vec<u16> =
        listeners.iter().map(|listener| listener.local_addr().expect("a bound socket has an address").port()).collect();
    drop(listeners);
    // Of each node first that of its controller.
    let ports: Vec<&[u16]> = ports.chunks(each).collect();
    let voters: Vec<String> =
        ports.iter().enumerate().map(|(node, ports)| format!("{}@127.0.0.1:{}", node + 1, ports[0])).collect();
    let mut started: Vec<Node> = (0..nodes)
        .map(|index| {
            let folder = tempfile::Builder::new().prefix("highwater-broker-").tempdir().expect("a folder for the broker").keep();
            let node = Node { folder, class_path: class_path.clone(), ports: ports[index][1..].to_vec(), keeper: None };
            node.configure(index + 1, ports[index][0], &voters.join(","), nodes, setup);
            node
        })
        .collect();
    // Formatting is a short Java program for each: all at once.
    let formatting: Vec<(PathBuf, Child)> = started
        .iter()
        .map(|node| (node.folder.clone(), spawn(node.java("kafka.tools.StorageTool").args(node.format()).args(&setup.format))))
        .collect();
    for (folder, child) in formatting {
        let output = child.wait_with_output().expect("a child can be waited for");
        assert!(output.status.success(), "formatting the broker's storage failed:\n{}", log(&folder));
    }
    started.iter_mut().for_each(Node::run);
    started.iter_mut().for_each(Node::wait);
    started
}

impl Node {
    pub(crate) fn bootstrap(&self) -> String {
        self.address(0)
    }

    /// Where a listener listens: the plain one, and from 1 those of the [`Setup`].
    pub(crate) fn address(&self, listener: usize) -> String {
        format!("127.0.0.1:{}", self.ports[listener])
    }

    #[cfg(test)]
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    fn configure(&self, id: usize, controller: u16, voters: &str, nodes: usize, setup: &Setup) {
        let (folder, replicas) = (self.folder.display(), nodes.min(3));
        let in_sync = replicas.min(2);
        let all: Vec<(&str, &str)> = [("PLAINTEXT", "PLAINTEXT")].into_iter().chain(setup.listeners.iter().copied()).collect();
        let addresses: Vec<String> =
            all.iter().zip(&self.ports).map(|((name, _), port)| format!("{name}://127.0.0.1:{port}")).collect();
        let protocols: Vec<String> = all.iter().map(|(name, protocol)| format!("{name}:{protocol}")).collect();
        let (addresses, protocols) = (addresses.join(","), protocols.join(","));
        let mut text = format!(
            "process.roles=broker,controller\nnode.id={id}\ncontroller.quorum.voters={voters}\n\
             listeners={addresses},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners={addresses}\ninter.broker.listener.name=PLAINTEXT\n\
             controller.listener.names=CONTROLLER\nlistener.security.protocol.map=CONTROLLER:PLAINTEXT,{protocols}\n\
             log.dirs={folder}/data\n\
             offsets.topic.replication.factor={replicas}\ntransaction.state.log.replication.factor={replicas}\n\
             transaction.state.log.min.isr={in_sync}\nshare.coordinator.state.topic.replication.factor={replicas}\n\
             share.coordinator.state.topic.min.isr={in_sync}\n"
        );
        // Small and quick: few threads, few partitions of its own, no waiting for members of a group.
        text.push_str(
            "offsets.topic.num.partitions=1\ntransaction.state.log.num.partitions=1\n\
             share.coordinator.state.topic.num.partitions=1\nnum.network.threads=2\nnum.io.threads=2\nbackground.threads=2\n\
             num.recovery.threads.per.data.dir=1\nlog.cleaner.threads=1\nlog.cleaner.dedupe.buffer.size=1048577\n\
             group.initial.rebalance.delay.ms=0\ntransaction.abort.timed.out.transaction.cleanup.interval.ms=500\n\
             controlled.shutdown.enable=false\n",
        );
        for (key, value) in &setup.properties {
            writeln!(text, "{key}={value}").expect("text grows");
        }
        fs::write(self.folder.join("server.properties"), text).expect("writing into a folder just made");
    }

    fn format(&self) -> [String; 5] {
        let config = self.folder.join("server.properties").display().to_string();
        // Any name of 22 letters is a cluster's; all nodes of one need the same, and no two clusters ever meet.
        ["format".into(), "--cluster-id".into(), "aGlnaHdhdGVyLWJyb2tlcg".into(), "--config".into(), config]
    }

    fn java(&self, main: &str) -> Command {
        let log = File::options().create(true).append(true).open(self.folder.join("log")).expect("the folder is there");
        let mut command = Command::new("java");
        command
            .args(["-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"])
            .args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true"])
            .args(["-cp", &self.class_path, main])
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log);
        command
    }

    /// Starts the process; see [`Node::wait`].
    pub(crate) fn run(&mut self) {
        assert!(self.keeper.is_none(), "the broker runs");
        let java = self.java("kafka.Kafka");
        let log = File::options().create(true).append(true).open(self.folder.join("log")).expect("the folder is there");
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEPER, "keeper"]).arg(&self.folder).arg(java.get_program()).args(java.get_args());
        keeper.arg(self.folder.join("server.properties"));
        keeper.stdin(Stdio::piped()).stdout(log.try_clone().expect("a file can be shared")).stderr(log);
        self.keeper = Some(spawn(&mut keeper));
    }

    /// Waits until the broker answers.
    pub(crate) fn wait(&mut self) {
        let start = Instant::now();
        while !answers(&self.bootstrap()) {
            if start.elapsed() > PATIENCE {
                panic!("the broker does not answer after {PATIENCE:?}:\n{}", log(&self.folder));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Kills the process and waits until it is gone.
    pub(crate) fn stop(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            let mut pipe = keeper.stdin.take().expect("it was asked for");
            // A keeper that is gone already has killed its broker.
            let _ = pipe.write_all(b"keep\n");
            keeper.wait().expect("a child can be waited for");
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop();
        // A folder in the place for temporary files may be left behind.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn spawn(command: &mut Command) -> Child {
    let program = command.get_program().to_string_lossy().into_owned();
    command.spawn().unwrap_or_else(|error| {
        panic!("starting {program}: {error}; the broker needs Java 17 or newer (Debian: apt-get install openjdk-17-jre-headless)")
    })
}

/// The end of what a broker said.
fn log(folder: &Path) -> String {
    let text = fs::read_to_string(folder.join("log")).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

/// Whether a broker answers the question for its versions (ApiVersions 0), the first that every client asks.
pub(crate) fn answers(address: &str) -> bool {
    const QUESTION: &[u8] = &[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff];
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(QUESTION)?;
        let mut answer = [0; 10];
        stream.read_exact(&mut answer)?;
        // Its length, our number, no error.
        Ok(answer[4..10] == [0, 0, 0, 7, 0, 0])
    };
    ask().unwrap_or(false)
}
