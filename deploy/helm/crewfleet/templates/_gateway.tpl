{{- /* The gateway with all its values, as JSON. */}}
{{- define "crewfleet.gateway" -}}
{{- /* Through JSON, so that every number is a float64, however it was given. */}}
{{- $gateway := .Values.gateway | toJson | fromJson }}
{{- $_ := set $gateway "fullname" (printf "%s-gateway" (include "crewfleet.fullname" .)) }}
{{- $secret := deepCopy $gateway.broker.existingSecret }}
{{- if not $secret.name }}
{{- $secret = dict "name" .Values.broker.existingSecret.name "key" ($secret.key | default .Values.broker.existingSecret.key) }}
{{- end }}
{{- $_ := set $gateway "brokerSecret" (include "crewfleet.brokerSecret" (list . $secret) | fromJson) }}
{{- $hasTls := not (empty $gateway.tls.existingSecret.name) }}
{{- $_ := set $gateway "scheme" (ternary "https" "http" $hasTls) }}
{{- $_ := set $gateway "port" ($gateway.service.port | default (ternary 443 80 $hasTls) | int) }}
{{- /* Calls that run when no more are taken have 10 s; as much again and half for the rest of its end. */}}
{{- $_ := set $gateway "termination" (addf $gateway.settings.lame_duck_s 10 15) }}
{{- include "crewfleet.checkGateway" (list . $gateway) }}
{{- $gateway | toJson }}
{{- end }}

{{- /* Prometheus takes the name for its label job, by which the dashboards tell gateways from workers. */}}
{{- define "crewfleet.gatewaySelector" -}}
app.kubernetes.io/name: crewfleet-gateway
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "crewfleet.gatewayLabels" -}}
{{ include "crewfleet.gatewaySelector" . }}
{{ include "crewfleet.commonLabels" . }}
{{- end }}

{{- /* The crewfleet.toml of the gateway: (list $ GATEWAY). */}}
{{- define "crewfleet.gatewayConfiguration" -}}
{{- $root := index . 0 }}
{{- $gateway := index . 1 }}
{{- $keys := merge (dict
      "addr" "0.0.0.0:8080"
      "admin_addr" "0.0.0.0:9465"
      "tokens_file" "/run/secrets/gateway/tokens/tokens.json"
      "tokens_used_file" "/var/lib/crewfleet/tokens-used.json"
    ) (omit $gateway.settings "store") }}
{{- if $gateway.tls.existingSecret.name }}
{{- $_ := set $keys "tls_cert_file" "/run/secrets/gateway/tls/tls.crt" }}
{{- $_ := set $keys "tls_key_file" "/run/secrets/gateway/tls/tls.key" }}
{{- end -}}
[broker]
{{- include "crewfleet.brokerTable" (list $root $gateway.broker.settings) }}

[gateway]
{{- include "crewfleet.toml.table" $keys }}

[gateway.store]
{{- include "crewfleet.toml.table" (merge (dict "file" "/var/lib/crewfleet/store.sqlite") $gateway.settings.store) }}
{{- with $gateway.webhooks }}

[webhooks]
{{- include "crewfleet.toml.table" . }}
{{- end }}
{{- range $name, $sink := $gateway.sinks }}

[sinks.{{ $name }}]
{{- include "crewfleet.toml.table" $sink }}
{{- end }}
{{- end }}

{{- /* How many bytes a quantity of Kubernetes is. */}}
{{- define "crewfleet.bytes" -}}
{{- $units := dict "" 1 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 }}
{{- mulf (regexFind "^[0-9.]+" .) (get $units (regexFind "[A-Za-z]*$" .)) | printf "%.0f" }}
{{- end }}

{{- /* What the schema cannot say: (list $ GATEWAY). */}}
{{- define "crewfleet.checkGateway" -}}
{{- $root := index . 0 }}
{{- $gateway := index . 1 }}
{{- if not $gateway.tokens.existingSecret.name }}
{{- fail (printf "gateway.tokens.existingSecret.name is missing; %s, and %s"
      "`crewfleet token create NAME --crew CREW` writes a file with a token's hash"
      "`kubectl create secret generic crewfleet-tokens --from-file=tokens.json=crewfleet-tokens.json` makes a Secret of it") }}
{{- end }}
{{- if hasKey $root.Values.crewGroups "gateway" }}
{{- fail "crewGroups.gateway would have the names of the gateway's objects; name the group otherwise" }}
{{- end }}
{{- if gt (len $gateway.fullname) 63 }}
{{- fail (printf "a Service cannot have the name %s, since it has more than 63 characters; set fullnameOverride"
      $gateway.fullname) }}
{{- end }}
{{- $settings := $root.Values.broker.settings }}
{{- if not (and (dig "streams" true $settings) (dig "results_max_age_s" 1 $settings)) }}
{{- fail "the gateway reads RabbitMQ's streams; broker.settings must have neither streams: false nor results_max_age_s: 0" }}
{{- end }}
{{- if and $gateway.sinks (eq (dig "sinks" true $gateway.settings) false) }}
{{- fail "gateway.sinks would be run by nobody, since gateway.settings.sinks is false" }}
{{- end }}
{{- range $gateway.env }}
{{- if and (hasKey . "value") (regexMatch (include "crewfleet.secretName" $) .name) }}
{{- fail (printf "gateway.env: %s would be readable in the Deployment; put it into a Secret for envFrom" .name) }}
{{- end }}
{{- end }}
{{- if not (dig "limits" "memory" "" $gateway.resources) }}
{{- fail "gateway.resources.limits.memory is missing; callers could take the node's memory" }}
{{- end }}
{{- $store := $gateway.settings.store }}
{{- $times := dig "full_text" false $store | ternary 2.5 2.0 }}
{{- $kept := addf $store.events_max_bytes $store.replies_max_bytes $store.inputs_max_bytes | mulf $times }}
{{- if lt (include "crewfleet.bytes" $gateway.storage.store | float64) $kept }}
{{- fail (printf "gateway.storage.store is %s, but the store may take %.1f Gi, %v times %s; make it larger, or these smaller"
      $gateway.storage.store (divf $kept 1073741824) $times
      "the events_max_bytes, replies_max_bytes and inputs_max_bytes of gateway.settings.store") }}
{{- end }}
{{- end }}
