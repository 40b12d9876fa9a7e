#!/bin/sh
# A job that looks for pages behind a login. It fails when the session was lost
# (exit code 3), so that an empty result is never taken for a clean one.
#
#   SHOP_PASS=… sh ffuf-ci.sh
set -eu
holdfast check shop-api.yaml
holdfast run -c shop-api.yaml --tool ffuf --max-lost 0 --report holdfast.json --trace trace.jsonl -- \
  ffuf -x {proxy} -k -s -t 20 -u 'https://shop.example/api/items?id=FUZZ' -w words.txt -mc 200 -o ffuf.json
