//! Authorized nodes die and come back.

use kogge_testkit::run::{run, wait_until};

use kogge_testkit::network::{LIMIT, Network, repository};

#[test]
fn one_of_four_may_fail_and_two_may_not() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = repository(folder.path(), 9, |it| {
        vec![u8::try_from(it).unwrap(); 5_000]
    });
    let url = format!("http://127.0.0.1:{}", upstream.port);
    let mut network = Network::start(4, 1, "http://127.0.0.1:9", &url, false);
    let build = |network: &Network, version: u8| {
        let spec = format!("org.example:lib:{version}");
        run(&mut network.regular(0).command(&["build", "maven", &spec])).unwrap();
    };
    build(&network, 1);
    network.wait_same_log(1);

    // One killed: the others go on; it returns and catches up.
    network.nodes[3].kill();
    build(&network, 2);
    let height = network.regular(0).head().0;
    network.nodes[3].start();
    network.wait_same_log(height);

    // Two killed: no progress, and the status says why.
    network.nodes[2].kill();
    network.nodes[3].kill();
    let stuck = network.nodes[0].head();
    let spec = "org.example:lib:3";
    run(&mut network
        .regular(0)
        .command(&["build", "maven", spec, "--no-wait"]))
    .unwrap();
    wait_until("the reason", LIMIT, || {
        let status = network.nodes[0].status().unwrap_or_default();
        status["consensus"]["waiting"]
            .as_str()
            .is_some_and(|it| it.contains("2 of 4"))
    })
    .unwrap();
    assert_eq!(network.nodes[0].head(), stuck);

    // Back: it goes on.
    network.nodes[2].start();
    network.nodes[3].start();
    build(&network, 3);
    network.wait_same_log(stuck.0 + 1);
}
