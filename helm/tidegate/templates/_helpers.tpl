{{- define "tidegate.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "tidegate.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "tidegate.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "tidegate.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Cluster-wide names have the namespace, so that two releases don't meet. */}}
{{- define "tidegate.clusterName" -}}
{{- if contains (include "tidegate.fullname" .) .Release.Namespace -}}
{{- .Release.Namespace -}}
{{- else -}}
{{- printf "%s-%s" .Release.Namespace (include "tidegate.fullname" .) -}}
{{- end -}}
{{- end -}}

{{- define "tidegate.selector" -}}
app.kubernetes.io/name: {{ include "tidegate.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "tidegate.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{ include "tidegate.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: tidegate
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "tidegate.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}

{{- define "tidegate.agentAccount" -}}
{{- $account := .Values.serviceAccount.agent -}}
{{- if $account.create -}}
{{- default (printf "%s-agent" (include "tidegate.fullname" .)) $account.name -}}
{{- else -}}
{{- required "serviceAccount.agent.name: write the ServiceAccount's name, or create: true" $account.name -}}
{{- end -}}
{{- end -}}

{{- define "tidegate.gatewayAccount" -}}
{{- $account := .Values.serviceAccount.gateway -}}
{{- if $account.create -}}
{{- default (printf "%s-gateway" (include "tidegate.fullname" .)) $account.name -}}
{{- else -}}
{{- required "serviceAccount.gateway.name: write the ServiceAccount's name, or create: true" $account.name -}}
{{- end -}}
{{- end -}}

{{/* Whether ValidatingAdmissionPolicies are made: "true" or nothing. */}}
{{- define "tidegate.admissionPolicies" -}}
{{- $asked := toString .Values.rbac.admissionPolicies -}}
{{- if eq $asked "true" -}}
true
{{- else if and (eq $asked "auto") (semverCompare ">=1.30.0-0" .Capabilities.KubeVersion.Version) -}}
true
{{- end -}}
{{- end -}}

{{/* The address of an admin side: of its values and the monitoring. HOST_IP is put in at start. */}}
{{- define "tidegate.adminAddress" -}}
{{- if .admin.address -}}
{{- .admin.address -}}
{{- else if .root.Values.monitoring.serviceMonitor.enabled -}}
$(HOST_IP)
{{- else -}}
127.0.0.1
{{- end -}}
{{- end -}}

{{- define "tidegate.adminListen" -}}
{{- $address := include "tidegate.adminAddress" . -}}
{{- if contains ":" $address -}}[{{ $address }}]{{- else -}}{{ $address }}{{- end -}}:{{ .admin.port }}
{{- end -}}

{{/* A probe of the admin side. The kubelet asks from the node itself, so loopback does. */}}
{{- define "tidegate.httpGet" -}}
{{- $address := include "tidegate.adminAddress" . -}}
httpGet:
  {{- if hasPrefix "127." $address }}
  host: {{ $address }}
  {{- else if eq $address "::1" }}
  host: "::1"
  {{- end }}
  path: {{ .path }}
  port: {{ .admin.port }}
{{- end -}}

{{- define "tidegate.probes" -}}
startupProbe:
  {{- include "tidegate.httpGet" (dict "root" .root "admin" .admin "path" "/healthz") | nindent 2 }}
  periodSeconds: 2
  failureThreshold: 30
livenessProbe:
  {{- include "tidegate.httpGet" (dict "root" .root "admin" .admin "path" "/healthz") | nindent 2 }}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  {{- include "tidegate.httpGet" (dict "root" .root "admin" .admin "path" "/readyz") | nindent 2 }}
  periodSeconds: 5
  timeoutSeconds: 2
{{- end -}}

{{/* The security context of the programs. */}}
{{- define "tidegate.securityContext" -}}
{{- $security := .root.Values.security -}}
runAsUser: {{ $security.runAsUser }}
runAsGroup: {{ $security.runAsUser }}
runAsNonRoot: {{ ne (int $security.runAsUser) 0 }}
# As another user than root, capabilities come by the files' (setcap), which no_new_privs would
# keep away. The list below bounds them, and the image has no other program that has any.
allowPrivilegeEscalation: {{ ne (int $security.runAsUser) 0 }}
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
  add:
    {{- range .capabilities }}
    - {{ . }}
    {{- end }}
seccompProfile:
  {{- toYaml $security.seccompProfile | nindent 2 }}
{{- with $security.seLinuxOptions }}
seLinuxOptions:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Gives the state directory to the program's user, and writes this node's name and address into
the configuration. */}}
{{- define "tidegate.prepare" -}}
- name: prepare
  image: {{ include "tidegate.image" .root }}
  imagePullPolicy: {{ .root.Values.image.pullPolicy }}
  command: [/bin/busybox, sh, -ceu]
  args:
    - |
      b=/bin/busybox
      uid={{ .root.Values.security.runAsUser }}
      if [ "$($b stat -c %u /state)" != "$uid" ]; then
          # First it is root's, each folder before what is in it: root has no right here to look into
          # others' folders.
          $b find /state -exec $b chown 0:0 {} \;
          $b chmod 0700 /state
          # Then the user's, the top last.
          $b find /state -depth -exec $b chown "$uid:$uid" {} +
      fi
      case $HOST_IP in *:*) HOST_IP="[$HOST_IP]" ;; esac
      # Brackets, since what stands in parentheses after a dollar here is the kubelet's to replace.
      $b sed -e "s|[$][(]NODE_NAME[)]|$NODE_NAME|g" -e "s|[$][(]HOST_IP[)]|$HOST_IP|g" \
          /template/{{ .file }} >/etc/tidegate/{{ .file }}
  env:
    - name: NODE_NAME
      valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
    - name: HOST_IP
      valueFrom: {fieldRef: {fieldPath: status.hostIP}}
  securityContext:
    # Only this may give a folder away, and it does nothing else.
    runAsUser: 0
    runAsGroup: 0
    runAsNonRoot: false
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    capabilities: {drop: [ALL], add: [CHOWN]}
    seccompProfile:
      {{- toYaml .root.Values.security.seccompProfile | nindent 6 }}
    {{- with .root.Values.security.seLinuxOptions }}
    seLinuxOptions:
      {{- toYaml . | nindent 6 }}
    {{- end }}
  resources:
    requests: {cpu: 10m, memory: 8Mi}
    limits: {memory: 32Mi}
  volumeMounts:
    - {name: template, mountPath: /template, readOnly: true}
    - {name: config, mountPath: /etc/tidegate}
    - {name: state, mountPath: /state}
{{- end -}}

{{- define "tidegate.env" -}}
- name: NODE_NAME
  valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
- name: POD_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
# A container's /proc/sys can't be written; what is mounted here is the same, of net alone.
- name: TIDEGATE_PROC_SYS
  value: /host/proc/sys
{{- with .root.Values.api }}
{{- if .host }}
- name: KUBERNETES_SERVICE_HOST
  value: {{ .host | quote }}
- name: KUBERNETES_SERVICE_PORT
  value: {{ required "api.port: write the API server's port beside api.host" .port | quote }}
{{- end }}
{{- end }}
{{- with .env }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "tidegate.mounts" -}}
- {name: config, mountPath: /etc/tidegate, readOnly: true}
- {name: state, mountPath: /var/lib/tidegate}
- {name: sysctl, mountPath: /host/proc/sys/net}
{{- if .tun }}
- {name: tun, mountPath: /dev/net/tun}
{{- end }}
{{- end -}}

{{- define "tidegate.volumes" -}}
- name: template
  configMap: {name: {{ .configMap }}}
- name: config
  emptyDir: {medium: Memory, sizeLimit: 1Mi}
# Keys, and what is remembered over restarts.
- name: state
  hostPath: {path: {{ .statePath }}, type: DirectoryOrCreate}
# Settings of the network namespace that the pod is in (which is the node's): forwarding, rp_filter.
- name: sysctl
  hostPath: {path: /proc/sys/net, type: Directory}
{{- if .tun }}
# Tunnels in user space.
- name: tun
  hostPath: {path: /dev/net/tun, type: CharDevice}
{{- end }}
{{- end -}}

{{/* The section `overlay` that gateways have. */}}
{{- define "tidegate.overlay" -}}
{{- $overlay := .Values.overlay -}}
enabled: {{ $overlay.enabled }}
{{- if $overlay.enabled }}
mode: {{ $overlay.mode }}
podCIDRs: {{ $overlay.podCIDRs }}
serviceSubnets: {{ toJson $overlay.serviceSubnets }}
egress:
  networks: {{ toJson $overlay.egress.networks }}
  masquerade: {{ $overlay.egress.masquerade }}
port: {{ $overlay.port }}
probePort: {{ $overlay.probePort }}
{{- with $overlay.mtu }}
mtu: {{ . }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The gateway's configuration. */}}
{{- define "tidegate.gatewayConfig" -}}
{{- $values := .Values.gateway -}}
{{- $inside := ne $values.kind "none" -}}
{{- $config := dict "apiVersion" "tidegate.io/v1alpha1" "kind" "GatewayConfig" -}}
{{- $source := dict "kubernetes" (dict) -}}
{{- if $inside -}}
{{- $_ := set $config "nodeName" "$(NODE_NAME)" -}}
{{- else -}}
{{- $source = dict "kubernetes" (dict "kubeconfig" $values.edgeVM.kubeconfig) -}}
{{- end -}}
{{- with .Values.rbac.secrets.namespaces -}}
{{- $_ := set $source.kubernetes "secretNamespaces" . -}}
{{- end -}}
{{- $_ := set $config "source" $source -}}
{{- $classes := .Values.ingressClasses -}}
{{- $public := mergeOverwrite (dict "ingressClass" $classes.public) (deepCopy $values.alb.public) -}}
{{- $private := mergeOverwrite (dict "ingressClass" $classes.private) (deepCopy $values.alb.private) -}}
{{- $_ := set $config "alb" (dict "public" $public "private" $private) -}}
{{- $_ := set $config "l4" (deepCopy $values.l4) -}}
{{- $_ := set $config "vpn" (deepCopy $values.vpn) -}}
{{- $_ := set $config "overlay" (include "tidegate.overlay" . | fromYaml) -}}
{{- $admin := printf "127.0.0.1:%v" $values.admin.port -}}
{{- if $inside -}}
{{- $admin = include "tidegate.adminListen" (dict "root" . "admin" $values.admin) -}}
{{- end -}}
{{- $_ := set $config "admin" (dict "listen" $admin) -}}
{{- $_ := set $config "state" "/var/lib/tidegate" -}}
{{- $_ := set $config "drain" (printf "%vs" $values.drainSeconds) -}}
{{- toYaml (mergeOverwrite $config (deepCopy $values.config)) -}}
{{- end -}}

{{/* The agent's configuration. */}}
{{- define "tidegate.agentConfig" -}}
{{- $values := .Values.agent -}}
{{- $overlay := dict "mode" .Values.overlay.mode "backend" $values.backend -}}
{{- /* An agent removes interfaces that begin as its own do and aren't: a gateway's beside it must not. */ -}}
{{- if and $values.onEdgeNodes (ne .Values.gateway.kind "none") -}}
{{- $_ := set $overlay "interfacePrefix" "tg-node" -}}
{{- end -}}
{{- with .Values.overlay.mtu -}}{{- $_ := set $overlay "mtu" . -}}{{- end -}}
{{- $config := dict "apiVersion" "tidegate.io/v1alpha1" "kind" "AgentConfig" -}}
{{- $_ := set $config "nodeName" "$(NODE_NAME)" -}}
{{- $_ := set $config "source" (dict "kubernetes" (dict)) -}}
{{- $_ := set $config "overlay" $overlay -}}
{{- $listen := include "tidegate.adminListen" (dict "root" . "admin" $values.admin) -}}
{{- $_ := set $config "admin" (dict "listen" $listen) -}}
{{- $_ := set $config "state" "/var/lib/tidegate" -}}
{{- $_ := set $config "onStop" $values.onStop -}}
{{- toYaml (mergeOverwrite $config (deepCopy $values.config)) -}}
{{- end -}}

{{/* What no schema can say. */}}
{{- define "tidegate.check" -}}
{{- $gateway := .Values.gateway -}}
{{- $l4 := $gateway.l4 -}}
{{- if and $l4.enabled (not (dig "interfaces" "public" list $l4)) (not (dig "interfaces" "private" list $l4)) -}}
{{- fail "gateway.l4.interfaces: name the interfaces that face the networks, such as {public: [eth0]}" -}}
{{- end -}}
{{- if and (ne $gateway.kind "none") (not $gateway.nodeSelector) -}}
{{- fail "gateway.nodeSelector: is empty, so every node would be an edge; name the label of those that are" -}}
{{- end -}}
{{- if and .Values.gateway.alb.private.enabled .Values.gateway.alb.public.enabled (eq .Values.ingressClasses.public .Values.ingressClasses.private) -}}
{{- fail "ingressClasses.private: is the public one's name; give each ALB a class of its own" -}}
{{- end -}}
{{- if and .Values.agent.enabled (not .Values.overlay.enabled) -}}
{{- fail "agent.enabled: the agent is of no use with overlay.enabled: false; write agent.enabled: false, too" -}}
{{- end -}}
{{- if and (eq .Values.agent.statePath $gateway.statePath) -}}
{{- fail "agent.statePath: is the gateway's; give each program a folder of its own" -}}
{{- end -}}
{{- range $name, $admin := dict "agent" .Values.agent.admin "gateway" $gateway.admin -}}
{{- if and $.Values.monitoring.serviceMonitor.enabled (or (hasPrefix "127." $admin.address) (eq $admin.address "::1")) -}}
{{- fail (printf "%s.admin.address: is loopback, where no Prometheus reaches it; leave it empty for the node's address" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Of what needs nothing: the tests. */}}
{{- define "tidegate.plainSecurityContext" -}}
runAsUser: 65534
runAsGroup: 65534
runAsNonRoot: true
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end -}}
