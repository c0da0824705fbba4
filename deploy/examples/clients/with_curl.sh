#!/usr/bin/env bash
# Kicks off the crew of a token through the gateway, and polls: GATEWAY_URL says where it is, GATEWAY_TOKEN who you are
# (crewfleet token create). Prints the status with the result. Needs curl and jq.
set -euo pipefail

call() { curl --fail-with-body --silent --show-error --max-time 30 --header "Authorization: Bearer $GATEWAY_TOKEN" "$@"; }

inputs='{"BUSINESS_DETAILS": "a bakery in Lisbon", "PRODUCT_DESCRIPTION": "a sourdough subscription"}'
kickoff_id=$(call --json "{\"inputs\": $inputs}" "$GATEWAY_URL/kickoff" | jq --raw-output .kickoff_id)
echo "kickoff $kickoff_id" >&2

until status=$(call "$GATEWAY_URL/status/$kickoff_id") && [[ $(jq --raw-output .state <<<"$status") =~ SUCCESS|FAILED ]]; do
    sleep 1
done
jq . <<<"$status"
[ "$(jq --raw-output .state <<<"$status")" = SUCCESS ]
