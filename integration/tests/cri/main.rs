//! Kubernetes pods: containerd's CRI plug-in with the handler `cofferdam`, a CNI bridge in the
//! enclave's network, a gRPC client, and the streaming protocol.

mod client;
mod pod;
mod stream;
mod users;

use std::{fs, time::Duration};

use client::Client;
use cofferdam_integration::{
    binaries::Runtime,
    cases::{self, Case, Engine},
    command::eventually,
    containerd::{Containerd, Options, PAUSE, Version},
    enclave::Enclave,
    error::{At, Error, Result},
    gate,
    image::{Extra, Image},
};
use k8s_cri::v1;
use pod::{Pod, Wanted};

/// A containerd with CRI, and a client of it.
struct Cri {
    engine: Containerd,
    client: Client,
}

impl Engine for Cri {
    fn enclave(&self) -> &Enclave {
        self.engine.enclave()
    }

    fn name(&self) -> String {
        format!("CRI of {}", self.engine.name())
    }

    fn clear(&self) -> Result<()> {
        let pods = self.client.list_pod_sandbox(Default::default())?;
        for pod in pods.items {
            let pod_sandbox_id = pod.id;
            self.client
                .remove_pod_sandbox(v1::RemovePodSandboxRequest { pod_sandbox_id })?;
        }
        Ok(())
    }

    fn is_own(&self, left: &str) -> bool {
        cases::is_parent_cgroup(left, self.enclave())
    }

    fn log(&self) -> String {
        self.engine.log()
    }
}

const CASES: &[Case<Cri>] = &[
    ("a_pod_with_two_containers", a_pod_with_two_containers),
    ("exec_sync_is_confined", exec_sync_is_confined),
    ("exec_streams", exec_streams),
    ("attach_streams", attach_streams),
    ("logs_are_kept", logs_are_kept),
    ("a_port_is_forwarded", a_port_is_forwarded),
    ("an_annotation_tightens", an_annotation_tightens),
    ("a_privileged_pod_is_refused", a_privileged_pod_is_refused),
    ("stats_are_told", stats_are_told),
    ("a_pod_has_ids_of_its_own", users::a_pod_has_ids_of_its_own),
    ("kubelets_ids_are_kept", users::kubelets_ids_are_kept),
    (
        "secrets_on_tmpfs_are_read",
        users::secrets_on_tmpfs_are_read,
    ),
    ("sysctls_of_a_pod_hold", users::sysctls_of_a_pod_hold),
];

impl Cri {
    fn start(version: Version) -> Result<Self> {
        let options = Options {
            cri: true,
            ..Default::default()
        };
        let engine = Containerd::start_with(version, Runtime::Cofferdam, &options)?;
        let script = engine.scratch("pause.sh");
        fs::write(&script, "#!/bin/sh\nexec sleep 1000000\n").at("write", &script)?;
        let pause = Image::busybox_with(
            "pause",
            &Extra {
                files: vec![("/pause".to_owned(), script, 0o755)],
                config: vec!["--config.entrypoint=/pause".to_owned()],
            },
        )?;
        assert_eq!(pause.name, PAUSE);
        for image in [&pause, &Image::busybox()?] {
            engine
                .ctr(["--namespace", "k8s.io", "images", "import"])
                .arg(&image.oci)
                .ok()?;
        }
        let cni = engine.scratch("cni");
        fs::create_dir_all(&cni).at("make", &cni)?;
        let conf = cni.join("10-bridge.conflist");
        let leases = engine.scratch("leases");
        let network = serde_json::json!({
            "cniVersion": "0.4.0",
            "name": "enclave",
            "plugins": [{
                "type": "bridge",
                "bridge": "cft0",
                "isGateway": true,
                "ipam": {"type": "host-local", "subnet": "10.88.77.0/24", "dataDir": leases},
            }],
        });
        fs::write(&conf, network.to_string()).at("write", conf)?;
        let client = Client::connect(&engine.socket())?;
        let cri = Self { engine, client };
        // The network is read when the directory changes; the first pod makes what stays.
        eventually("a first pod starts", Duration::from_secs(20), || {
            Pod::run(&cri.client, &cri.engine, "first", &[])
                .map(drop)
                .map_err(|error| error.chain())
        })?;
        Ok(cri)
    }

    fn pod(&self, name: &str, annotations: &[(&str, &str)]) -> Result<Pod<'_>> {
        Pod::run(&self.client, &self.engine, name, annotations)
    }

    /// Runs a command in a container to its end: exit code, standard output, standard error.
    fn exec(&self, container: &str, argv: &[&str]) -> Result<(i32, String, String)> {
        let done = self.client.exec_sync(v1::ExecSyncRequest {
            container_id: container.to_owned(),
            cmd: argv.iter().map(|&word| word.to_owned()).collect(),
            timeout: 20,
        })?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((done.exit_code, text(&done.stdout), text(&done.stderr)))
    }
}

fn a_pod_with_two_containers(cri: &Cri) -> Result<()> {
    let shims = cri.engine.shims()?.len();
    let pod = cri.pod("two", &[])?;
    let status = cri.client.pod_sandbox_status(v1::PodSandboxStatusRequest {
        pod_sandbox_id: pod.id.clone(),
        verbose: false,
    })?;
    let ip = status.status.and_then(|status| status.network);
    let ip = ip.map(|network| network.ip).unwrap_or_default();
    assert!(ip.starts_with("10.88.77."), "pod address {ip:?}");
    let server = Wanted {
        name: "server",
        command: &[
            "sh",
            "-c",
            "echo page >/tmp/index.html; exec httpd -f -p 8080 -h /tmp",
        ],
        ..Default::default()
    };
    pod.start(&server)?;
    let worker = pod.start(&Wanted::default())?;
    assert_eq!(cri.engine.shims()?.len(), shims + 1, "one shim for the pod");
    // The containers share the pod's network, and see their own processes only.
    eventually("the server answers", Duration::from_secs(5), || {
        match cri.exec(
            &worker,
            &["wget", "-qO-", "http://127.0.0.1:8080/index.html"],
        ) {
            Ok((0, page, _)) if page == "page\n" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    let (_, name, _) = cri.exec(&worker, &["hostname"])?;
    assert_eq!(name, "two\n");
    let (_, processes, _) = cri.exec(&worker, &["ps"])?;
    assert!(!processes.contains("httpd"), "{processes}");
    // A container can go while the pod stays.
    cri.client.stop_container(v1::StopContainerRequest {
        container_id: worker.clone(),
        timeout: 0,
    })?;
    let status = cri.client.container_status(v1::ContainerStatusRequest {
        container_id: worker.clone(),
        verbose: false,
    })?;
    let status = status.status.unwrap_or_default();
    assert_eq!(
        (status.state, status.exit_code),
        (v1::ContainerState::ContainerExited as i32, 137)
    );
    cri.client.remove_container(v1::RemoveContainerRequest {
        container_id: worker,
    })?;
    pod.start(&Wanted {
        name: "another",
        ..Default::default()
    })?;
    Ok(())
}

fn exec_sync_is_confined(cri: &Cri) -> Result<()> {
    let pod = cri.pod("exec", &[])?;
    let id = pod.start(&Wanted::default())?;
    let done = cri.exec(&id, &["sh", "-c", "echo out; echo err >&2; exit 7"])?;
    assert_eq!(done, (7, "out\n".to_owned(), "err\n".to_owned()));
    let wanted = "CapBnd|CapEff|NoNewPrivs|Seccomp";
    let (_, exec, _) = cri.exec(&id, &["grep", "-E", wanted, "/proc/self/status"])?;
    let (_, init, _) = cri.exec(&id, &["grep", "-E", wanted, "/proc/1/status"])?;
    assert_eq!(exec, init, "exec is confined as init is");
    assert!(
        exec.contains("NoNewPrivs:\t1") && exec.contains("Seccomp:\t2"),
        "{exec}"
    );
    Ok(())
}

fn exec_streams(cri: &Cri) -> Result<()> {
    let pod = cri.pod("stream", &[])?;
    let id = pod.start(&Wanted::default())?;
    let exec = |tty: bool, command: &str| {
        cri.client.exec(v1::ExecRequest {
            container_id: id.clone(),
            cmd: ["sh", "-c", command].map(str::to_owned).to_vec(),
            tty,
            stdin: true,
            stdout: true,
            stderr: !tty,
        })
    };
    let url = exec(false, "read line; echo got $line; echo bad >&2; exit 3")?.url;
    let heard = stream::talk(cri.enclave(), &url, &[(0, b"hello\n")], |heard| {
        !heard.text(3).is_empty()
    })?;
    assert_eq!(heard.text(1), "got hello\n");
    assert_eq!(heard.text(2), "bad\n");
    assert!(
        heard.text(3).contains("\"3\""),
        "the exit code: {}",
        heard.text(3)
    );
    // containerd passes a new size on by itself, so that it may come after the input.
    let patient = "read line; for i in $(seq 100); do stty size 2>/dev/null | grep -q 37 && break; sleep 0.1; done";
    let url = exec(true, &format!("{patient}; stty size; tty; echo got $line"))?.url;
    let size = br#"{"Width":101,"Height":37}"#;
    let heard = stream::talk(cri.enclave(), &url, &[(4, size), (0, b"hi\n")], |heard| {
        heard.text(1).contains("got hi")
    })?;
    let text = heard.text(1);
    assert!(
        text.contains("37 101") && text.contains("/dev/pts/"),
        "{text}"
    );
    Ok(())
}

fn attach_streams(cri: &Cri) -> Result<()> {
    let pod = cri.pod("attach", &[])?;
    let container_id = pod.start(&Wanted {
        command: &["cat"],
        stdin: true,
        ..Default::default()
    })?;
    let request = v1::AttachRequest {
        container_id,
        stdin: true,
        tty: false,
        stdout: true,
        stderr: true,
    };
    let url = cri.client.attach(request)?.url;
    let heard = stream::talk(cri.enclave(), &url, &[(0, b"echo me\n")], |heard| {
        heard.text(1).contains("echo me")
    })?;
    assert_eq!(heard.text(1), "echo me\n");
    Ok(())
}

fn logs_are_kept(cri: &Cri) -> Result<()> {
    let pod = cri.pod("logs", &[])?;
    pod.start(&Wanted {
        command: &["sh", "-c", "echo first; echo second >&2; sleep 1000"],
        ..Default::default()
    })?;
    let log = pod.log("worker");
    eventually("both lines are logged", Duration::from_secs(5), || {
        let text = fs::read_to_string(&log).map_err(|error| error.to_string())?;
        let both = text.contains(" stdout F first\n") && text.contains(" stderr F second\n");
        both.then_some(()).ok_or(text)
    })
}

fn a_port_is_forwarded(cri: &Cri) -> Result<()> {
    let pod = cri.pod("forward", &[])?;
    let command = &[
        "sh",
        "-c",
        "echo forwarded >/tmp/index.html; exec httpd -f -p 8080 -h /tmp",
    ];
    let id = pod.start(&Wanted {
        command,
        ..Default::default()
    })?;
    eventually("the server listens", Duration::from_secs(5), || {
        match cri.exec(&id, &["wget", "-qO-", "http://127.0.0.1:8080/index.html"]) {
            Ok((0, _, _)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })?;
    let request = v1::PortForwardRequest {
        pod_sandbox_id: pod.id.clone(),
        port: vec![8080],
    };
    let url = format!("{}?port=8080", cri.client.port_forward(request)?.url);
    let get = b"GET /index.html HTTP/1.0\r\n\r\n";
    let heard = stream::talk(cri.enclave(), &url, &[(0, get)], |heard| {
        heard.text(0).contains("forwarded")
    })?;
    assert!(heard.text(0).contains("forwarded"), "{heard:?}");
    Ok(())
}

fn an_annotation_tightens(cri: &Cri) -> Result<()> {
    let pod = cri.pod("ordinary", &[])?;
    pod.start(&Wanted::default())?;
    drop(pod);
    // The sandbox's own process must satisfy the policy as well: kubelet runs it as the pod's user.
    let refused = cri.pod("tight", &[("cofferdam.dev/policy", "restricted")]);
    match refused.map(drop) {
        Err(Error::Timeout { detail, .. }) => assert!(
            detail.contains("restricted") && detail.contains("run-as-root"),
            "{detail}"
        ),
        other => panic!("root is not allowed by restricted, but: {other:?}"),
    }
    let error = cri.pod("typo", &[("cofferdam.dev/polcy", "restricted")]);
    assert!(error.is_err(), "an unknown annotation of ours is refused");
    Ok(())
}

fn a_privileged_pod_is_refused(cri: &Cri) -> Result<()> {
    let request = v1::RunPodSandboxRequest {
        config: Some(v1::PodSandboxConfig {
            metadata: Some(v1::PodSandboxMetadata {
                name: "privileged".to_owned(),
                uid: "privileged-uid".to_owned(),
                namespace: "default".to_owned(),
                attempt: 0,
            }),
            linux: Some(v1::LinuxPodSandboxConfig {
                cgroup_parent: format!("/{}", cri.enclave().tag()),
                security_context: Some(v1::LinuxSandboxSecurityContext {
                    namespace_options: Some(v1::NamespaceOption {
                        pid: v1::NamespaceMode::Node as i32,
                        network: v1::NamespaceMode::Node as i32,
                        ..Default::default()
                    }),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        }),
        runtime_handler: "cofferdam".to_owned(),
    };
    match cri.client.run_pod_sandbox(request) {
        Ok(pod) => {
            let pod_sandbox_id = pod.pod_sandbox_id;
            cri.client
                .remove_pod_sandbox(v1::RemovePodSandboxRequest { pod_sandbox_id })?;
            panic!("a pod in the host's namespaces was started");
        }
        Err(error) => assert!(error.to_string().contains("host-namespaces"), "{error}"),
    }
    Ok(())
}

fn stats_are_told(cri: &Cri) -> Result<()> {
    let pod = cri.pod("stats", &[])?;
    let container_id = pod.start(&Wanted::default())?;
    let stats = cri
        .client
        .container_stats(v1::ContainerStatsRequest { container_id })?;
    let stats = stats.stats.unwrap_or_default();
    let memory = stats.memory.and_then(|memory| memory.working_set_bytes);
    assert!(memory.is_some_and(|bytes| bytes.value > 0), "{memory:?}");
    let cpu = stats.cpu.and_then(|cpu| cpu.usage_core_nano_seconds);
    assert!(cpu.is_some_and(|time| time.value > 0), "{cpu:?}");
    Ok(())
}

fn suite(version: Version) -> Result<()> {
    if gate::root().is_none() {
        return Ok(());
    }
    let Some(cri) = gate::present(Cri::start(version))? else {
        return Ok(());
    };
    cases::run(&cri, CASES)
}

#[test]
fn pods_under_containerd_1_6() -> Result<()> {
    suite(Version::V1_6)
}

#[test]
fn pods_under_containerd_1_7() -> Result<()> {
    suite(Version::V1_7)
}

#[test]
fn pods_under_containerd_2_1() -> Result<()> {
    suite(Version::V2_1)
}
