#!/usr/bin/env bash
# node.sh: process 1 of the node, in pid, mount and network namespaces of its own. When it ends, by whatever cause, the kernel ends all its
# processes and frees its mounts, interfaces and packet filter rules.
set -euo pipefail
. "$(dirname "$0")/env.sh"
dir=$run/node pki=$run/pki
mkdir -p "$dir/pid" "$dir/log"
read -r pid _ < /proc/self/stat # our number outside, until /proc is mounted anew
echo "$pid" > "$run/init.pid"

# Programs find their usual paths; the machine's own folders stay untouched.
mount --make-rslave /
mount -t proc proc /proc
own() { mkdir -p "$1" "$2"; mount --bind "$1" "$2"; mount --make-shared "$2"; }
own "$dir/run" /run
own "$dir/containerd" /var/lib/containerd
own "$dir/kubelet" /var/lib/kubelet
own "$dir/cni" /var/lib/cni
own "$dir/cni-conf" /etc/cni/net.d
own "$dir/log/pods" /var/log/pods
own "$dir/log/containers" /var/log/containers
own "$run/volumes" /tmp/hostpath_pv # kubernetes.io/host-path provisions here

ip link set lo up
sysctl -qw net.ipv4.ip_forward=1
sysctl -qw net.bridge.bridge-nf-call-iptables=1 2> /dev/null || :
until ip link show eth0 up > /dev/null 2>&1; do sleep 0.05; done # up.sh makes it

for subsystem in /sys/fs/cgroup/*/; do
  [ -e "$subsystem/cgroup.clone_children" ] || continue # cgroup v1
  mkdir -p "$subsystem/$cgroup"
  [ "$(basename "$subsystem")" = cpuset ] || continue
  for f in cpuset.cpus cpuset.mems; do cat "$subsystem/$f" > "$subsystem/$cgroup/$f"; done
done
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then mkdir -p "/sys/fs/cgroup/$cgroup"; fi # cgroup v2

cat > "$dir/containerd.toml" <<TOML
version = 2
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  restrict_oom_score_adj = true # there may be no CAP_SYS_RESOURCE
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
TOML
cat > /etc/cni/net.d/10-sluice.conflist <<JSON
{"cniVersion": "1.0.0", "name": "sluice", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isDefaultGateway": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": "$pods"}]]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
JSON
cat > "$dir/kubelet.yaml" <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
authentication: {x509: {clientCAFile: $pki/ca.crt}}
clusterDNS: [$dns]
clusterDomain: cluster.local
resolvConf: ""
cgroupDriver: cgroupfs
cgroupRoot: /$cgroup
failCgroupV1: false # from 1.35 on
failSwapOn: false
oomScoreAdj: 0
# A ConfigMap or Secret that was changed is seen soon.
syncFrequency: 10s
# Tests start many pods at a time, and crash some on purpose.
serializeImagePulls: false
maxPods: 200
crashLoopBackOff: {maxContainerRestartPeriod: 5s}
featureGates: {KubeletCrashLoopBackOffMax: true}
# Images are loaded by hand: never collect them, however full the disk.
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: "0%", nodefs.available: "0%", nodefs.inodesFree: "0%", imagefs.available: "0%", imagefs.inodesFree: "0%"}
YAML
cat > "$dir/kube-proxy.yaml" <<YAML
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clientConnection: {kubeconfig: $pki/kube-proxy.kubeconfig}
clusterCIDR: 10.244.0.0/16
hostnameOverride: node1
oomScoreAdj: 0
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s} # not ours to set
YAML

# Starts a program, and again whenever it ends, as an init system does.
keep() { # NAME ARGS...
  local name=$1 code; shift
  while :; do
    "$name" "$@" >> "$dir/log/$name.log" 2>&1 &
    echo $! > "$dir/pid/$name"
    wait $! && code=0 || code=$?
    echo "$(date -Is) $name ended: $code" >> "$dir/log/restarts.log"
    sleep 0.2
  done
}
api() { until kubectl get --raw /readyz > /dev/null 2>&1; do sleep 0.1; done; } # without it they back off

keep etcd --data-dir "$run/etcd" --unsafe-no-fsync --log-level warn \
  --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
  --listen-peer-urls http://127.0.0.1:2380 &
keep kube-apiserver --etcd-servers http://127.0.0.1:2379 --advertise-address "$node" --secure-port 6443 \
  --service-cluster-ip-range "$services" --authorization-mode Node,RBAC \
  --enable-admission-plugins NodeRestriction,OwnerReferencesPermissionEnforcement --allow-privileged \
  --tls-cert-file "$pki/apiserver.crt" --tls-private-key-file "$pki/apiserver.key" --client-ca-file "$pki/ca.crt" \
  --kubelet-client-certificate "$pki/apiserver-kubelet.crt" --kubelet-client-key "$pki/apiserver-kubelet.key" \
  --kubelet-preferred-address-types InternalIP \
  --service-account-issuer https://kubernetes.default.svc.cluster.local \
  --service-account-key-file "$pki/service-account.pub" --service-account-signing-key-file "$pki/service-account.key" \
  --requestheader-client-ca-file "$pki/ca.crt" --requestheader-allowed-names front-proxy \
  --requestheader-username-headers X-Remote-User --requestheader-group-headers X-Remote-Group \
  --requestheader-extra-headers-prefix X-Remote-Extra- \
  --proxy-client-cert-file "$pki/front-proxy.crt" --proxy-client-key-file "$pki/front-proxy.key" &
{
  api
  keep kube-controller-manager --kubeconfig "$pki/kube-controller-manager.kubeconfig" \
    --authentication-kubeconfig "$pki/kube-controller-manager.kubeconfig" \
    --authorization-kubeconfig "$pki/kube-controller-manager.kubeconfig" \
    --bind-address 127.0.0.1 --leader-elect=false --use-service-account-credentials \
    --service-account-private-key-file "$pki/service-account.key" --root-ca-file "$pki/ca.crt" \
    --cluster-signing-cert-file "$pki/ca.crt" --cluster-signing-key-file "$pki/ca.key" \
    --enable-hostpath-provisioner --kube-api-qps 300 --kube-api-burst 400 &
  keep kube-scheduler --kubeconfig "$pki/kube-scheduler.kubeconfig" \
    --authentication-kubeconfig "$pki/kube-scheduler.kubeconfig" \
    --authorization-kubeconfig "$pki/kube-scheduler.kubeconfig" \
    --bind-address 127.0.0.1 --leader-elect=false &
  wait
} &
keep containerd --config "$dir/containerd.toml" &
until [ -S /run/containerd/containerd.sock ] && ctr version > /dev/null 2>&1; do sleep 0.1; done
for image in "$run"/images/*.tar; do ctr -n k8s.io images import "$image" >> "$dir/log/images.log" 2>&1; done
api
keep kubelet --config "$dir/kubelet.yaml" --kubeconfig "$pki/kubelet.kubeconfig" --hostname-override node1 --node-ip "$node" &
keep kube-proxy --config "$dir/kube-proxy.yaml" &
# The provisioner's folders are root's alone (0750), and fsGroup does not apply to hostPath: open them, or no unprivileged container could
# use its claim.
while sleep 0.2; do chmod -f 0777 /tmp/hostpath_pv/* || :; done
