//! kind, minikube and clusters that users have, for the tests of the operator: what `tests/cluster/*.sh` ask of these tools. The tools are
//! stand-ins here, which write down how they are called and answer as the real ones do.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

/// Programs by name, and what they do with `$*`.
struct Tools {
    dir: TempDir,
}

impl Tools {
    fn new(programs: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, answers) in programs {
            let file = dir.path().join(name);
            let script = format!(
                "#!/bin/bash\necho \"{name}$(printf ' %q' \"$@\")\" >> '{}/calls'\ncase \"$*\" in\n{answers}\nesac\n",
                dir.path().display()
            );
            std::fs::write(&file, script).unwrap();
            std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
        }
        Self { dir }
    }

    /// Runs a script of `tests/cluster` with these programs and what Debian always has.
    fn run(&self, script: &str, args: &[&str], environment: &[(&str, &str)]) -> Output {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster").join(script);
        let path = format!("{}:/usr/bin:/bin", self.dir.path().display());
        let mut command = Command::new(file);
        command.args(args).env_clear().envs([("PATH", path.as_str()), ("HOME", "/home/me"), ("TMPDIR", self.dir.path().to_str().unwrap())]);
        command.envs(environment.iter().copied()).output().unwrap()
    }

    /// How they were called since this was asked last.
    fn calls(&self) -> Vec<String> {
        let calls = self.dir.path().join("calls");
        let text = std::fs::read_to_string(&calls).unwrap_or_default();
        let _ = std::fs::remove_file(calls);
        text.lines().map(str::to_owned).collect()
    }

    fn kubeconfig(&self, kind: &str) -> String {
        format!("{}/sluice-tests-{kind}.kubeconfig", self.dir.path().display())
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

const KIND: [(&str, &str); 1] = [("SLUICE_TEST_CLUSTER", "kind")];
const MINIKUBE: [(&str, &str); 1] = [("SLUICE_TEST_CLUSTER", "minikube")];
/// Docker networks have addresses of both families, in any order.
const DOCKER: (&str, &str) = ("docker", "'network inspect kind '*) echo 'fc00:f853:ccd:e793::1 172.18.0.1 ' ;;");

#[test]
fn kind() {
    let inspect = r"docker network inspect kind -f \{\{range\ .IPAM.Config\}\}\{\{.Gateway\}\}\ \{\{end\}\}";
    let create = "kind create cluster --name sluice-tests --wait 120s";
    for (clusters, created) in [("sluice-tests-2", true), ("kind\\nsluice-tests", false)] {
        let answers = format!("'get clusters') printf '{clusters}\\n' ;;\n'get kubeconfig '*) echo of-kind ;;\n'create '*) echo noise ;;");
        let tools = Tools::new(&[("kind", &answers), DOCKER]);
        let facts = printed(&tools.run("up.sh", &[], &KIND));
        assert_eq!(facts, format!("KUBECONFIG={}\nHOST=172.18.0.1\n", tools.kubeconfig("kind")), "{clusters}");
        assert_eq!(std::fs::read_to_string(tools.kubeconfig("kind")).unwrap(), "of-kind\n");
        let mut wanted = vec!["kind get clusters", create, "kind get kubeconfig --name sluice-tests", inspect];
        wanted.retain(|call| created || *call != create);
        assert_eq!(tools.calls(), wanted, "{clusters}");
        printed(&tools.run("load.sh", &["/tmp/image.tar"], &KIND));
        assert_eq!(tools.calls(), ["kind load image-archive --name sluice-tests /tmp/image.tar"]);
        printed(&tools.run("down.sh", &[], &KIND));
        assert_eq!(tools.calls(), [""; 0], "it stays");
    }
}

#[test]
fn minikube() {
    let start = "minikube -p sluice-tests start";
    for (status, started) in [("exit 7", true), ("true", false)] {
        let answers = format!(
            "*' status') {status} ;;\n*' start') echo noise ;;\n*' config view '*) echo of-minikube ;;\n\
             *' ssh '*) printf '192.168.49.1\\thost.minikube.internal\\r\\n' ;;"
        );
        let tools = Tools::new(&[("minikube", &answers)]);
        let facts = printed(&tools.run("up.sh", &[], &MINIKUBE));
        assert_eq!(facts, format!("KUBECONFIG={}\nHOST=192.168.49.1\n", tools.kubeconfig("minikube")), "{status}");
        assert_eq!(std::fs::read_to_string(tools.kubeconfig("minikube")).unwrap(), "of-minikube\n");
        let view = "minikube -p sluice-tests kubectl -- config view --flatten --minify --context=sluice-tests";
        let host = r"minikube -p sluice-tests ssh grep\ host.minikube.internal\ /etc/hosts";
        let mut wanted = vec!["minikube -p sluice-tests status", start, view, host];
        wanted.retain(|call| started || *call != start);
        assert_eq!(tools.calls(), wanted, "{status}");
        printed(&tools.run("load.sh", &["/tmp/image.tar"], &MINIKUBE));
        assert_eq!(tools.calls(), ["minikube -p sluice-tests image load /tmp/image.tar"]);
        printed(&tools.run("down.sh", &[], &MINIKUBE));
        assert_eq!(tools.calls(), [""; 0], "it stays");
    }
}

/// Tools that fail are not taken for ones that have nothing to say.
#[test]
fn what_fails() {
    let broken = Tools::new(&[("kind", "'create '*) echo 'no docker' >&2; exit 1 ;;"), DOCKER]);
    let output = broken.run("up.sh", &[], &KIND);
    assert!(!output.status.success() && text(&output.stderr).contains("no docker"), "{output:?}");
    let no_network = Tools::new(&[("kind", ""), ("docker", "*) echo 'no such network' >&2; exit 1 ;;")]);
    assert!(!no_network.run("up.sh", &[], &KIND).status.success());
    let no_host = Tools::new(&[("minikube", "*' ssh '*) exit 1 ;;")]);
    assert!(!no_host.run("up.sh", &[], &MINIKUBE).status.success());
}

#[test]
fn current() {
    let tools = Tools::new(&[]);
    let current = ("SLUICE_TEST_CLUSTER", "current");
    let with = |more: &[(&str, &str)]| tools.run("up.sh", &[], &[&[current], more].concat());
    assert_eq!(printed(&with(&[("SLUICE_TEST_HOST", "10.0.0.7")])), "KUBECONFIG=/home/me/.kube/config\nHOST=10.0.0.7\n");
    let named = with(&[("SLUICE_TEST_HOST", "10.0.0.7"), ("KUBECONFIG", "/a:/b")]);
    assert_eq!(printed(&named), "KUBECONFIG=/a:/b\nHOST=10.0.0.7\n");
    for (script, args, words) in [
        ("up.sh", &[] as &[&str], "SLUICE_TEST_HOST: with SLUICE_TEST_CLUSTER=current say under which address pods reach this machine"),
        ("load.sh", &["/tmp/image.tar"], "SLUICE_TEST_IMAGE"),
    ] {
        let output = tools.run(script, args, &[current]);
        assert!(!output.status.success() && text(&output.stderr).contains(words), "{output:?}");
    }
    let unknown = tools.run("up.sh", &[], &[("SLUICE_TEST_CLUSTER", "k3d")]);
    assert!(!unknown.status.success() && text(&unknown.stderr).contains("is kind, minikube or current"), "{unknown:?}");
    assert_eq!(tools.calls(), [""; 0]);
}
