//! The pod's network.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use cofferdam_integration::command::eventually;
use cofferdam_integration::error::{At as _, Result};
use cofferdam_integration::netns::Namespace;
use serde_json::json;

use crate::yard::Yard;

/// A pod as a CNI plugin leaves it, and a plain namespace at the same bridge: both reach each other.
#[test]
fn a_pod_keeps_its_network() -> Result<()> {
    let Some(yard) = Yard::new()? else {
        return Ok(());
    };
    let node = Namespace::node()?;
    let pod = node.pod(2, 1400)?;
    let mut bundle = yard.bundle("net", &["nc", "-ll", "-p", "80", "-e", "cat"])?;
    // As Docker and containerd have it, for those without the capability.
    bundle.spec["linux"]["sysctl"] = json!({"net.ipv4.ping_group_range": "0 2147483647"});
    let namespaces = bundle.spec["linux"]["namespaces"]
        .as_array_mut()
        .expect("a list");
    namespaces.retain(|namespace| namespace["type"] != "network");
    namespaces.push(json!({"type": "network", "path": pod.path()}));
    let running = yard.start(&bundle, "net")?;
    let shown = running.exec(&["ip", "addr", "show", "eth0"])?.ok()?.stdout;
    assert!(
        shown.contains("10.99.0.2/24") && shown.contains("mtu 1400"),
        "{shown}"
    );
    let set = running
        .exec(&["cat", "/proc/sys/net/ipv4/ping_group_range"])?
        .ok()?;
    assert_eq!(set.stdout, "0\t2147483647\n");
    node.run("busybox ping -c 2 -w 30 10.99.0.2")?;
    // The other way round: the container calls, and is answered.
    let listener =
        node.within(|| std::net::TcpListener::bind("10.99.0.1:0").at("listen at", "10.99.0.1"))?;
    let port = listener
        .local_addr()
        .expect("it has a port")
        .port()
        .to_string();
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept()?;
        stream.write_all(b"from the node\n")
    });
    let called = running
        .exec(&["nc", "-w", "20", "10.99.0.1", &port])?
        .run()?;
    assert_eq!(called.stdout, "from the node\n", "{called:?}");
    answering.join().expect("it ends").expect("it answers");
    let sent: Vec<u8> = (0..400_000_u32).flat_map(u32::to_le_bytes).collect();
    let mut back = Vec::new();
    eventually("the container listens", Duration::from_secs(20), || {
        back.clear();
        let exchange = || -> std::io::Result<Vec<u8>> {
            let mut stream = std::net::TcpStream::connect("10.99.0.2:80")?;
            let mut reader = stream.try_clone()?;
            let length = sent.len();
            let reading = std::thread::spawn(move || {
                let mut got = vec![0; length];
                reader.read_exact(&mut got).map(|()| got)
            });
            stream.write_all(&sent)?;
            reading.join().expect("it reads")
        };
        match node.within(|| exchange().at("talk to", "10.99.0.2:80")) {
            Ok(got) => {
                back = got;
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        }
    })?;
    assert!(back == sent, "the echo is another: {} bytes", back.len());
    running.delete()
}
