#!/usr/bin/env bash
# Makes the cluster's certificates and kubeconfigs in $run/pki.
set -euo pipefail
. "$(dirname "$0")/env.sh"
mkdir -p "$run/pki"; cd "$run/pki"
umask 077
printf '[req]\ndistinguished_name=dn\n[dn]\n' > openssl.cnf

request=(openssl req -x509 -config openssl.cnf -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30)
# Leaves say CA:FALSE: rustls refuses an end entity that is a CA.
cert() { # NAME SUBJECT [SAN]
  "${request[@]}" -CA ca.crt -CAkey ca.key -keyout "$1.key" -out "$1.crt" -subj "$2" \
    -addext basicConstraints=critical,CA:FALSE -addext extendedKeyUsage=serverAuth,clientAuth \
    ${3:+-addext "subjectAltName=$3"} 2>> openssl.log
}
kubeconfig() { # NAME
  cat > "$1.kubeconfig" <<YAML
apiVersion: v1
kind: Config
current-context: sluice-tests
contexts: [{name: sluice-tests, context: {cluster: sluice-tests, user: $1}}]
clusters: [{name: sluice-tests, cluster: {server: "https://$node:6443", certificate-authority-data: $(base64 -w0 ca.crt)}}]
users: [{name: $1, user: {client-certificate-data: $(base64 -w0 "$1.crt"), client-key-data: $(base64 -w0 "$1.key")}}]
YAML
}
"${request[@]}" -keyout ca.key -out ca.crt -subj /CN=sluice-tests-ca \
  -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign 2>> openssl.log
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out service-account.key 2>> openssl.log
openssl pkey -in service-account.key -pubout -out service-account.pub
names=DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local
cert apiserver /CN=kube-apiserver "IP:$node,IP:127.0.0.1,IP:10.96.0.1,$names"
cert apiserver-kubelet /O=system:masters/CN=apiserver-kubelet
cert front-proxy /CN=front-proxy
cert admin /O=system:masters/CN=admin
for c in kube-controller-manager kube-scheduler kube-proxy; do cert $c /CN=system:$c; done
cert kubelet /O=system:nodes/CN=system:node:node1
for c in admin kube-controller-manager kube-scheduler kube-proxy kubelet; do kubeconfig $c; done
