//! Container clients pull through a regular node that got the images from its peers.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use kogge_testkit::registry::with_demo_images;
use kogge_testkit::run::{Child, run, wait_until};

use kogge_testkit::network::{LIMIT, Network, cache};

/// Files of a `dir:` copy by name: manifests and blobs by their digests.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder).unwrap().map(|it| it.unwrap());
    entries
        .map(|it| {
            let name = it.file_name().into_string().unwrap();
            (name, std::fs::read(it.path()).unwrap())
        })
        .collect()
}

fn skopeo(source: &str, target: &Path) {
    let mut copy = Command::new("skopeo");
    copy.args([
        "copy",
        "--quiet",
        "--all",
        "--insecure-policy",
        "--src-tls-verify=false",
        source,
    ]);
    run(copy.arg(format!("dir:{}", target.display()))).unwrap();
}

#[test]
fn unmodified_clients_pull_what_peers_agreed_on() {
    let folder = tempfile::tempdir().unwrap();
    let registry = with_demo_images(&cache(), &folder.path().join("registry")).unwrap();
    let network = Network::start(4, 2, &registry.url(), "http://127.0.0.1:9", false);
    let (alice, bob) = (network.regular(0), network.regular(1));
    for image in ["library/demo:1.0", "library/demo-large:1.0"] {
        run(&mut alice.command(&["build", "docker", image])).unwrap();
        skopeo(&registry.direct(image), &folder.path().join("upstream"));
    }
    network.wait_same_log(1);
    registry.switch_off(true);
    let before = registry.requests().all().len();

    // skopeo gets the very bytes of the upstream.
    for image in ["library/demo:1.0", "library/demo-large:1.0"] {
        let (theirs, ours) = (folder.path().join("theirs"), folder.path().join("ours"));
        for it in [&theirs, &ours] {
            let _ = std::fs::remove_dir_all(it);
        }
        skopeo(&registry.direct(image), &theirs);
        skopeo(&format!("docker://{}/{image}", bob.registry()), &ours);
        assert!(
            files(&theirs) == files(&ours),
            "{image} differs from the upstream"
        );
    }
    podman(folder.path(), &bob.registry());
    containerd(folder.path(), &bob.registry());
    docker(folder.path(), &bob.registry());
    assert_eq!(
        registry.requests().all().len(),
        before,
        "the upstream was asked again"
    );

    let unknown = run(Command::new("skopeo")
        .args(["inspect", "--tls-verify=false"])
        .arg(format!("docker://{}/library/unknown:1.0", bob.registry())));
    assert!(
        unknown
            .unwrap_err()
            .to_string()
            .contains("manifest unknown")
    );
}

fn podman(folder: &Path, registry: &str) {
    let root = folder.join("podman");
    let mut pull = Command::new("podman");
    pull.arg("--root")
        .arg(root.join("root"))
        .arg("--runroot")
        .arg(root.join("run"));
    pull.args([
        "--storage-driver",
        "vfs",
        "pull",
        "--quiet",
        "--tls-verify=false",
    ]);
    run(pull.arg(format!("{registry}/library/demo:1.0"))).unwrap();
}

fn containerd(folder: &Path, registry: &str) {
    let root = folder.join("containerd");
    let hosts = root.join("hosts/docker.io");
    std::fs::create_dir_all(&hosts).unwrap();
    let text = format!("[host.\"http://{registry}\"]\n  capabilities = [\"pull\", \"resolve\"]\n");
    std::fs::write(hosts.join("hosts.toml"), text).unwrap();
    let socket = root.join("c.sock");
    let config = root.join("config.toml");
    let text = format!(
        "version = 2\nroot = \"{0}/root\"\nstate = \"{0}/state\"\ndisabled_plugins = [\
         \"io.containerd.grpc.v1.cri\", \"io.containerd.internal.v1.opt\"]\n\
         [grpc]\n  address = \"{1}\"\n",
        root.display(),
        socket.display()
    );
    std::fs::write(&config, text).unwrap();
    let mut daemon = Command::new("containerd");
    let _daemon = Child::start(daemon.arg("-c").arg(config), &root.join("log")).unwrap();
    wait_until("containerd", LIMIT, || socket.exists()).unwrap();
    let mut pull = Command::new("ctr");
    pull.arg("--address")
        .arg(&socket)
        .args(["image", "pull", "--snapshotter", "native"]);
    pull.arg("--hosts-dir")
        .arg(root.join("hosts"))
        .arg("docker.io/library/demo:1.0");
    run(&mut pull).unwrap();
}

fn docker(folder: &Path, registry: &str) {
    let root = folder.join("docker");
    std::fs::create_dir_all(&root).unwrap();
    let socket = root.join("d.sock");
    let host = format!("unix://{}", socket.display());
    let mut daemon = Command::new("dockerd");
    daemon
        .arg("--data-root")
        .arg(root.join("data"))
        .arg("--exec-root")
        .arg(root.join("exec"));
    daemon
        .arg("-H")
        .arg(&host)
        .arg("--pidfile")
        .arg(root.join("pid"));
    daemon.args(["--iptables=false", "--ip6tables=false", "--bridge=none"]);
    daemon.args(["--storage-driver", "vfs"]);
    daemon
        .arg("--registry-mirror")
        .arg(format!("http://{registry}"));
    let mut daemon = Child::start(&mut daemon, &root.join("log")).unwrap();
    let docker = |args: &[&str]| run(Command::new("docker").arg("-H").arg(&host).args(args));
    let log = || std::fs::read_to_string(root.join("log")).unwrap_or_default();
    wait_until("dockerd", LIMIT, || {
        docker(&["version"]).is_ok() || daemon.has_ended()
    })
    .unwrap_or_else(|error| panic!("{error}:\n{}", log()));
    // By the name users type, through the mirror, and by the node's own name.
    for name in [
        "library/demo:1.0".to_owned(),
        format!("{registry}/library/demo-large:1.0"),
    ] {
        docker(&["pull", "--quiet", &name]).unwrap_or_else(|it| panic!("{it}\n{}", log()));
    }
    terminate(&mut daemon);
    let _ = run(Command::new("umount").arg(root.join("exec/netns/default")));
}

/// dockerd starts a containerd of its own; it ends it when it is asked politely.
fn terminate(daemon: &mut Child) {
    run(Command::new("kill").arg(daemon.id().to_string())).unwrap();
    let _ = wait_until("dockerd's end", LIMIT, || daemon.has_ended());
}
