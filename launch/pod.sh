#!/usr/bin/env bash
# One slice of TPUs: ask for it, send the code, run a command on all its workers, look, stop, delete.
#
#   launch/pod.sh create            ask for the slice, and wait until it is there
#   launch/pod.sh push              send the code of one commit; make the environment on every worker
#   launch/pod.sh run -- COMMAND... start the command on every worker; it outlives the connection
#   launch/pod.sh logs [--job JOB] [--worker WORKER]   what a worker of the (last) job wrote
#   launch/pod.sh status            the slice, its last job, and how to get rid of it
#   launch/pod.sh stop              ask the job to save its state and exit
#   launch/pod.sh delete            delete the slice, and see it gone
#
# Settings, as variables or flags: PROJECT ZONE TPU_NAME (--name) TPU_TYPE (--type) RUNTIME_VERSION BUCKET;
# SERVICE_ACCOUNT; and SLICES, --spot or --reserved, --internal-ips, QUEUE_DURATION, IDLE_MINUTES, CACHE,
# COMMIT, --dirty, --create-flag=FLAG (handed to gcloud, repeatable). --dry-run prints the commands and runs none.
# A slice costs money from `create` to `delete`; babysit.sh does all of this and always deletes.

# shellcheck source=launch/slice.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/slice.sh"

create() {
  require PROJECT ZONE TPU_NAME TPU_TYPE RUNTIME_VERSION SERVICE_ACCOUNT
  slice_create || {
    say "create failed; see above. Nothing is deleted: $(delete_command)"
    return 1
  }
  [[ $DRY_RUN == yes ]] || wait_until_active
}

wait_until_active() {
  local state before=""
  while true; do
    state=$(slice_state)
    [[ $state == "$before" ]] || say "$TPU_NAME is $state."
    before=$state
    case $state in
      ACTIVE) return 0 ;;
      NONE | FAILED | SUSPENDING | SUSPENDED | DELETING)
        [[ $state != FAILED ]] || say "the cloud says: $(failure_reason)"
        say "it will not come; delete the request with: $(delete_command)"
        return 1
        ;;
    esac
    pause "$POLL_SECONDS"
  done
}

push() {
  require PROJECT ZONE TPU_NAME BUCKET
  push_code
}

run() {
  require PROJECT ZONE TPU_NAME BUCKET
  ((${#REST[@]})) || die "run: give the command after --, for example: run -- poison-scaling plan configs/smoke.py"
  local job
  job=$(new_job)
  start_job "$job" "${REST[@]}"
  [[ $DRY_RUN == yes ]] || echo "$job"
}

# Of the last job, unless --job gives it.
job_name() {
  local last
  if [[ -n $JOB ]]; then
    echo "$JOB"
  else
    last=$(gcloud storage ls "$FOLDER/jobs/" </dev/null | tail -n 1)
    last=${last%/}
    echo "${last##*/}"
  fi
}

logs() {
  require PROJECT ZONE TPU_NAME BUCKET
  cloud storage cat "$FOLDER/jobs/$(job_name)/${WORKER:-*}.log"
}

status() {
  require PROJECT ZONE TPU_NAME
  local state job
  state=$(slice_state)
  if [[ $state == NONE ]]; then
    echo "$TPU_NAME: there is no such slice in $ZONE; it costs nothing."
    return
  fi
  echo "$TPU_NAME: $state"
  if [[ -n $BUCKET ]]; then
    job=$(job_name 2>/dev/null) || job=""
    if [[ -n $job ]]; then
      echo "job $job:"
      job_states "$job"
    fi
  fi
  echo "It exists until it is deleted: $(delete_command)"
}

stop() {
  require PROJECT ZONE TPU_NAME
  stop_job
}

delete() {
  require PROJECT ZONE TPU_NAME
  slice_delete
}

JOB="" WORKER=""
VALUES+=([--job]=JOB [--worker]=WORKER)
parse "$@"
verb=${OTHERS[0]-}
case $verb in
  create | push | run | logs | status | stop | delete) ;;
  *) die "pod.sh ${verb:-(nothing)}: give one of create, push, run, logs, status, stop, delete; --help tells more." ;;
esac
((${#OTHERS[@]} == 1)) || die "pod.sh $verb: ${OTHERS[1]} is unknown; --help lists what there is."
"$verb"
