# shellcheck shell=bash
# Runs on every worker from its boot on, as a startup script: bounds the bill when nobody watches any more.
# A slice whose laptop died while it was queued, or whose job is over, would cost money for ever; so a
# worker on which on_vm.sh showed no sign of life for IDLE_MINUTES deletes the slice it belongs to.
# SLICE, PROJECT, ZONE and IDLE_MINUTES are set in front of these lines.

alive=${POISON_ALIVE:-/var/tmp/poison_scaling.alive} # on_vm.sh touches it
poll=${WATCHDOG_POLL:-60}
idle=${WATCHDOG_IDLE:-$((IDLE_MINUTES * 60))}

watch() {
  local began last
  began=$(date +%s)
  while sleep "$poll"; do
    last=$(stat -c %Y "$alive" 2>/dev/null || echo 0)
    ((last > began)) || last=$began
    if (($(date +%s) - last >= idle)); then
      gcloud compute tpus queued-resources delete "$SLICE" "--project=$PROJECT" "--zone=$ZONE" \
        --force --quiet --async
    fi
  done
}

watch </dev/null >/var/tmp/poison_scaling.watchdog.log 2>&1 &
disown
