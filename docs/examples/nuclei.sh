#!/bin/sh
# A template of nuclei that asks behind the login, without a word of it: no
# secret file, no header.
#
#   SHOP_PASS=… sh nuclei.sh
set -eu
holdfast run -c shop-api.yaml --tool nuclei --report holdfast.json -- \
  nuclei -proxy {proxy} -duc -ni -silent -t nuclei/items.yaml -u https://shop.example
