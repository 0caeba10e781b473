#!/usr/bin/env bash
# Asks for a queued resource, asks again when its capacity was withdrawn, and gives it back when the run has ended.
#
#   tpu/requeue.sh STATUS NAME FLAG...
#
#   STATUS   gs:// file that says `running`, and at the end `done` or `failed` (tpu/until_done.sh writes it)
#   NAME     of the queued resource
#   FLAG...  of `gcloud compute tpus queued-resources create`; one that is there already is only watched
#
# Exit code 0: the run is done. 1: it failed, or the resource cannot be had. Stopped, it leaves everything as it is;
# run again, it goes on.
#
#   MELAMA_POLL   seconds between looks (default: 60)
set -euo pipefail
status="$1" name="$2"
shift 2
flags=("$@")
where=()
for flag in "${flags[@]}"; do
  if [[ $flag == --zone=* || $flag == --project=* ]]; then where+=("$flag"); fi
done

resource() {
  gcloud compute tpus queued-resources "$@" "${where[@]}"
}

say() {
  echo "$(date +%FT%T) $name: $*" >&2
}

# What to do: wait, create, delete (to create it next time), or end. Given how the run stands and how the resource
# stands (nothing: there is none).
decide() {
  case "$1/$2" in
    done/* | failed/*) echo end ;;
    */) echo create ;;
    */SUSPENDED | */FAILED) echo delete ;;
    *) echo wait ;;
  esac
}

failures=0 had=
while true; do
  run="$(gcloud storage cat "$status")" || run=unknown
  if ! found="$(resource list --filter="name~(^|/)$name\$" --format="value(state.state)")"; then
    say "gcloud gives no answer"
    found=unknown
  fi
  say "the run: $run; the resource: ${found:-none}"
  case "$(decide "$run" "$found")" in
    create)
      if gcloud compute tpus queued-resources create "$name" "${flags[@]}"; then
        had=yes
      elif [[ -z $had ]]; then
        exit 1 # the request itself is wrong
      else
        ((++failures))
      fi
      ;;
    delete)
      if [[ $found == FAILED ]]; then ((++failures)); fi
      resource delete "$name" --force --quiet || true # it is looked at again
      ;;
    end)
      if [[ -z $found ]] || resource delete "$name" --force --quiet; then
        if [[ $run == "done" ]]; then exit 0; else exit 1; fi
      fi
      ;;
  esac
  if [[ -n $found ]]; then had=yes; fi
  if [[ $found == ACTIVE ]]; then failures=0; fi
  if ((failures >= 10)); then
    say "failed $failures times in a row: giving up"
    exit 1
  fi
  sleep "${MELAMA_POLL:-60}"
done
