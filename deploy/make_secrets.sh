#!/bin/sh
# make_secrets.sh FOLDER
#
# The secrets of a deployment, one folder for each who reads them:
#   FOLDER/queue     the users of Redis: hashes and rights, no password
#   FOLDER/services  the password of Redis; the hashes of all API keys
#   FOLDER/learner   the password of Redis; the learner's API key
# What exists is kept, so a second run, or one after a crash in the middle, changes nothing that somebody uses.
set -eu
umask 077
folder=${1:?usage: make_secrets.sh FOLDER}
mkdir -p "$folder/queue" "$folder/services" "$folder/learner"

# put FILE: stdin becomes the file, whole or not at all
put() {
    cat >"$1.new"
    mv "$1.new" "$1"
}

[ -s "$folder/services/redis.password" ] || head -c 32 /dev/urandom | base64 | tr -d '\n' | put "$folder/services/redis.password"
put "$folder/learner/redis.password" <"$folder/services/redis.password"

# The rights of docs/redis.md, and a user for health checks who may only ask whether somebody is there.
digest=$(sha256sum <"$folder/services/redis.password" | cut -d' ' -f1)
put "$folder/queue/users.acl" <<RIGHTS
user default off
user preceptor on #$digest ~pc1:* &pc1:* +@read +@write +@scripting +@pubsub +@connection +time -@dangerous +info
user probe on nopass resetchannels -@all +ping
RIGHTS
chmod 755 "$folder/queue"
chmod 644 "$folder/queue/users.acl" # read by the server's own user

[ -s "$folder/learner/api.key" ] || preceptor keys create --key-file "$folder/services/keys.yaml" --out "$folder/learner/api.key" \
    --tenant local --scope generate --scope score --scope grade --scope train --scope status
