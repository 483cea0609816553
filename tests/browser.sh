#!/bin/sh
# Makes sure that a Chromium is there for the browser tests: any that is installed, else Debian's.
set -eu
for name in "${CHROMIUM:-}" chromium chromium-browser google-chrome; do
  if [ -n "$name" ] && command -v "$name" >/dev/null 2>&1; then exit 0; fi
done
if ! command -v apt-get >/dev/null 2>&1; then
  echo "tests: no Chromium found; install one or set CHROMIUM=/path/to/it" >&2
  exit 1
fi
run=""
[ "$(id -u)" -eq 0 ] || run="sudo"
$run apt-get update -qq
DEBIAN_FRONTEND=noninteractive $run apt-get install -y -qq --no-install-recommends chromium fonts-noto-cjk >/dev/null
