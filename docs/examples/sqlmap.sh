#!/bin/sh
# sqlmap compares answers, so one that differs because the session died would
# mislead it. Behind Holdfast it meets none.
#
#   SHOP_PASS=… sh sqlmap.sh
set -eu
holdfast run -c shop-api.yaml --tool sqlmap --report holdfast.json -- \
  sqlmap --proxy={proxy} --batch --ignore-stdin --disable-coloring -u 'https://shop.example/item?id=1' --technique B --dbms sqlite --banner
