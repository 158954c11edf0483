# shellcheck shell=bash
# One slice of TPUs through gcloud: its settings, and the steps that pod.sh, babysit.sh and pull.sh share.
# To be sourced. A "slice" is a queued resource: one slice, or several that train one model together.

set -euo pipefail
if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] < 404)); then
  echo "error: bash ${BASH_VERSION} is too old; 4.4 or newer is needed (on a Mac: brew install bash)." >&2
  exit 2
fi

LAUNCH=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)

# ------------------------------------------------------------------------------------------ messages

say() { printf '%s %s\n' "$(date +%H:%M:%S)" "$*" >&2; }

die() { # bad input: one sentence, exit code 2
  printf 'error: %s\n' "$*" >&2
  exit 2
}

# The arguments as a command line that gives them back, quoted only where that is needed.
quoted() {
  local argument line=""
  for argument in "$@"; do
    if [[ ! $argument =~ ^[A-Za-z0-9_./:=@%+,-]+$ ]]; then
      argument=${argument@Q}
    fi
    line+=" $argument"
  done
  printf '%s' "${line# }"
}

# Sleep so that a signal ends it at once.
pause() {
  sleep "$1" >/dev/null 2>&1 &
  wait "$!" || true
}

# ------------------------------------------------------------------------------------------ settings

# From the environment; flags replace them. What they mean: docs/launching.md.
PROJECT=${PROJECT-} ZONE=${ZONE-} TPU_NAME=${TPU_NAME-} TPU_TYPE=${TPU_TYPE-}
RUNTIME_VERSION=${RUNTIME_VERSION-} BUCKET=${BUCKET-}
SLICES=${SLICES:-1}                  # that train one model together
PRICING=${PRICING:-on-demand}        # on-demand, spot, reserved
QUEUE_DURATION=${QUEUE_DURATION:-1d} # a request not granted by then expires
IDLE_MINUTES=${IDLE_MINUTES:-30}     # a slice that works on nothing for so long deletes itself; 0: never
SERVICE_ACCOUNT=${SERVICE_ACCOUNT-}  # of the slice; without one it could not delete itself
INTERNAL_IPS=${INTERNAL_IPS:-no}     # yes: workers without addresses of their own, reached through IAP
OWNER=${OWNER:-$(id -un)-$(uname -n)} # who may take over a slice of this name
CACHE=${CACHE-}                      # prepared data: a folder of the workers, or one in a bucket to copy
COMMIT=${COMMIT:-HEAD}               # whose code runs
DIRTY=${DIRTY:-no}                   # yes: send changes that are not committed, too
DRY_RUN=${DRY_RUN:-no}               # yes: print commands, run none

# Seconds and counts, for slow clouds and fast tests.
POLL_SECONDS=${POLL_SECONDS:-20} SSH_TRIES=${SSH_TRIES:-5} SSH_PAUSE=${SSH_PAUSE:-15}
DELETE_TRIES=${DELETE_TRIES:-8} DELETE_PAUSE=${DELETE_PAUSE:-15}
DELETE_SECONDS=${DELETE_SECONDS:-14400} # for a slice on its way in or out, which cannot be deleted yet
SETUP_SECONDS=${SETUP_SECONDS:-3600}    # to make the environment on a worker, and copy the data

CREATE_FLAGS=() # handed to gcloud as they are

# Flags with a value, by the variable that takes it, and those without one, by what they set. Scripts add
# their own before they parse.
declare -A VALUES=(
  [--project]=PROJECT [--zone]=ZONE [--name]=TPU_NAME [--type]=TPU_TYPE [--runtime-version]=RUNTIME_VERSION
  [--bucket]=BUCKET [--slices]=SLICES [--queue-duration]=QUEUE_DURATION [--idle-minutes]=IDLE_MINUTES
  [--service-account]=SERVICE_ACCOUNT [--cache]=CACHE [--commit]=COMMIT [--create-flag]=CREATE_FLAGS
)
declare -A SWITCHES=([--spot]=PRICING=spot [--reserved]=PRICING=reserved [--internal-ips]=INTERNAL_IPS=yes
  [--dirty]=DIRTY=yes [--dry-run]=DRY_RUN=yes)

# Take settings from flags, "--zone=z" or "--zone z". Sets REST to what follows "--", and OTHERS to arguments
# that are not known. The first one may ask for help, which is the comment at the head of the script.
parse() {
  OTHERS=() REST=()
  case ${1-} in
    -h | --help | help)
      sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
      exit 0
      ;;
  esac
  local flag
  while (($#)); do
    flag=${1%%=*}
    if [[ $1 == -- ]]; then
      shift
      REST=("$@")
      return
    elif [[ $1 != --?* ]]; then
      OTHERS+=("$1")
    elif [[ -n ${SWITCHES[$1]-} ]]; then
      set_variable "${SWITCHES[$1]%%=*}" "${SWITCHES[$1]#*=}"
    elif [[ -z ${VALUES[$flag]-} ]]; then
      OTHERS+=("$1")
    elif [[ $1 == *=* ]]; then
      set_variable "${VALUES[$flag]}" "${1#*=}"
    elif (($# == 1)) || [[ $2 == -- ]]; then
      die "$1: give its value behind it."
    else
      set_variable "${VALUES[$flag]}" "$2"
      shift
    fi
    shift
  done
}

set_variable() {
  case $1 in
    CREATE_FLAGS) CREATE_FLAGS+=("$2") ;;
    *) printf -v "$1" %s "$2" ;;
  esac
}

# Exit unless every named setting is there; all that are missing are named at once.
require() {
  local name missing=()
  for name in "$@"; do
    [[ -n ${!name} ]] || missing+=("$name ($(flag_of "$name"))")
  done
  if ((${#missing[@]})); then
    local list
    printf -v list ', %s' "${missing[@]}"
    die "settings are missing: ${list#, }; give each as an environment variable or by its flag."
  fi
  [[ $SLICES =~ ^[1-9][0-9]*$ ]] || die "SLICES=$SLICES: it must be a positive number."
  [[ $IDLE_MINUTES =~ ^[0-9]+$ ]] || die "IDLE_MINUTES=$IDLE_MINUTES: it must be a number of minutes, 0 for never."
  case $PRICING in
    on-demand | spot | reserved) ;;
    *) die "PRICING=$PRICING: it must be on-demand, spot or reserved." ;;
  esac
  BUCKET=${BUCKET%/}
  [[ -z $BUCKET || $BUCKET == gs://* ]] || BUCKET=gs://$BUCKET
  WHERE=("--project=$PROJECT" "--zone=$ZONE")
  OWNER=$(tr '[:upper:]' '[:lower:]' <<<"$OWNER" | tr -c 'a-z0-9_\n-' '-' | cut -c1-63) # as labels must be
  FOLDER=$BUCKET/launch/$TPU_NAME # of the slice, in the bucket: code, states and logs
}

# The flag that gives a setting.
flag_of() {
  local flag
  for flag in "${!VALUES[@]}"; do
    [[ ${VALUES[$flag]} != "$1" ]] || echo "$flag"
  done
}

# ---------------------------------------------------------------------------------- commands of gcloud

# Run gcloud, or print the command.
cloud() {
  if [[ $DRY_RUN == yes ]]; then
    quoted gcloud "$@"
    echo
  else
    gcloud "$@" </dev/null
  fi
}

cloud_git() {
  if [[ $DRY_RUN == yes ]]; then
    quoted git -C "$ROOT" "$@"
    echo
  else
    git -C "$ROOT" "$@"
  fi
}

# Commands for every worker of every slice; the arguments are a command there.
on_workers() {
  local tunnel=()
  [[ $INTERNAL_IPS == no ]] || tunnel=(--tunnel-through-iap)
  cloud compute tpus queued-resources ssh "$TPU_NAME" "${WHERE[@]}" \
    --node=all --worker=all --batch-size=all --quiet \
    --ssh-flag=-oConnectTimeout=30 --ssh-flag=-oServerAliveInterval=30 ${tunnel[@]+"${tunnel[@]}"} \
    "--command=$(quoted "$@")" # a machine that is gone must not hold us up
}

# As on_workers, again and again while the connection fails. The commands must bear being repeated.
on_workers_surely() {
  local try code state
  for ((try = 1; ; try++)); do
    code=0
    on_workers "$@" || code=$?
    if ((code == 0)); then return 0; fi
    if ((try >= SSH_TRIES)); then return "$code"; fi
    say "ssh to $TPU_NAME failed with $code; trying again ($try of $SSH_TRIES)."
    pause "$SSH_PAUSE"
    state=$(slice_state)
    # Nobody is there to answer when the slice was taken away. Where even that cannot be asked for, it is this
    # machine that is cut off.
    if [[ $state =~ ^(NONE|SUSPENDING|SUSPENDED|FAILED|DELETING)$ ]]; then return "$code"; fi
    [[ $state != UNKNOWN ]] || try=$((try - 1))
  done
}

# ---------------------------------------------------------------------------------------- the slice

# Its state as the cloud has it; NONE where there is no such slice, UNKNOWN where that cannot be said.
slice_state() {
  local answer
  if answer=$(gcloud compute tpus queued-resources describe "$TPU_NAME" "${WHERE[@]}" \
    '--format=value(state.state)' 2>&1 </dev/null); then
    answer=${answer##*$'\n'}
    printf '%s\n' "${answer:-UNKNOWN}"
  elif [[ $answer == *NOT_FOUND* ]]; then
    echo NONE
  else
    say "the state of $TPU_NAME is unknown: ${answer//$'\n'/ }"
    echo UNKNOWN
  fi
}

# Who asked for the slice; nothing where that cannot be said.
slice_owner() {
  gcloud compute tpus queued-resources describe "$TPU_NAME" "${WHERE[@]}" \
    '--format=value(tpu.nodeSpec[0].node.labels.poison-owner)' 2>/dev/null </dev/null || true
}

# Why a request has failed, as the cloud has it.
failure_reason() {
  gcloud compute tpus queued-resources describe "$TPU_NAME" "${WHERE[@]}" \
    '--format=value(state.failedData.error.message)' 2>/dev/null </dev/null || true
}

# Ask for the slice. It exists from then on, whatever gcloud answers.
slice_create() {
  local startup=startup.sh flags=()
  if ((SLICES == 1)); then
    flags+=("--node-id=$TPU_NAME")
  else
    flags+=("--node-count=$SLICES" "--node-prefix=$TPU_NAME")
  fi
  [[ $PRICING == on-demand ]] || flags+=("--$PRICING")
  [[ $INTERNAL_IPS == no ]] || flags+=(--internal-ips)
  if [[ $DRY_RUN != yes ]]; then
    startup=$(mktemp)
    startup_script >"$startup"
  fi
  ((IDLE_MINUTES == 0)) || flags+=("--metadata-from-file=startup-script=$startup")
  local code=0
  cloud compute tpus queued-resources create "$TPU_NAME" "${WHERE[@]}" \
    "--accelerator-type=$TPU_TYPE" "--runtime-version=$RUNTIME_VERSION" \
    "--service-account=$SERVICE_ACCOUNT" "--labels=poison-owner=$OWNER" \
    "--valid-until-duration=$QUEUE_DURATION" --scopes=https://www.googleapis.com/auth/cloud-platform \
    "${flags[@]}" ${CREATE_FLAGS[@]+"${CREATE_FLAGS[@]}"} --async --quiet || code=$?
  [[ $DRY_RUN == yes ]] || rm -f -- "$startup"
  return "$code"
}

# What each worker runs as it boots: launch/watchdog.sh with its settings.
startup_script() {
  echo '#!/bin/bash'
  printf '%s=%q\n' SLICE "$TPU_NAME" PROJECT "$PROJECT" ZONE "$ZONE" IDLE_MINUTES "$IDLE_MINUTES"
  cat -- "$LAUNCH/watchdog.sh"
}

delete_command() {
  quoted gcloud compute tpus queued-resources delete "$TPU_NAME" "${WHERE[@]}" --force --quiet
}

# Delete the slice and see it gone. Returns 1, and says what is left, when it does not go.
slice_delete() {
  if [[ $DRY_RUN == yes ]]; then
    delete_command
    echo
    return
  fi
  local try=0 state since=$SECONDS
  while ((try < DELETE_TRIES && SECONDS - since < DELETE_SECONDS)); do
    say "deleting $TPU_NAME."
    gcloud compute tpus queued-resources delete "$TPU_NAME" "${WHERE[@]}" --force --quiet --async \
      >&2 </dev/null || true
    state=$(slice_state)
    while [[ $state == DELETING ]] && ((SECONDS - since < DELETE_SECONDS)); do
      pause "$POLL_SECONDS"
      state=$(slice_state)
    done
    if [[ $state == NONE ]]; then
      say "$TPU_NAME is gone."
      return 0
    fi
    # The cloud refuses to delete what it is still setting up or taking away, for hours at times.
    [[ $state =~ ^(PROVISIONING|CREATING|SUSPENDING)$ ]] || try=$((try + 1))
    pause "$DELETE_PAUSE"
  done
  state=$(slice_state)
  if [[ $state == NONE ]]; then return 0; fi
  printf 'error: %s could not be deleted (its state is %s) and may cost money; remove it with: %s\n' \
    "$TPU_NAME" "$state" "$(delete_command)" >&2
  return 1
}

# ------------------------------------------------------------------------------------------ code, jobs

# Sets ROOT and SENT, the commit whose code is sent. Exits when that cannot be said for sure.
check_code() {
  ROOT=$(git -C "$LAUNCH" rev-parse --show-toplevel) || die "$LAUNCH is not in a git repository."
  SENT=$(git -C "$ROOT" rev-parse --verify --quiet "$COMMIT^{commit}") || die "COMMIT=$COMMIT: there is no such commit."
  [[ $COMMIT == HEAD && -n $(git -C "$ROOT" status --porcelain) ]] || return 0
  [[ $DIRTY == yes ]] || die "there are changes that are not committed (git status lists them); commit them," \
    "or give --dirty to send tracked files as they are."
  local changed
  changed=$(git -C "$ROOT" stash create "sent as it was by launch/slice.sh")
  SENT=${changed:-$SENT} # when only untracked files differ
  say "sending tracked files as they are now, recorded as commit $SENT."
}

# Send the code to every worker, and make the environment there.
push_code() {
  [[ -n ${SENT-} ]] || check_code
  local archive=code.tar.gz url=$FOLDER/code/$SENT.tar.gz code=0 sum=SHA256
  if [[ $DRY_RUN != yes ]]; then archive=$(mktemp); fi
  cloud_git archive --format=tar.gz "--output=$archive" "$SENT"
  if [[ $DRY_RUN != yes ]]; then sum=$(sha256 "$archive"); fi
  cloud storage cp --quiet "$archive" "$url" || code=$?
  [[ $DRY_RUN == yes ]] || rm -f -- "$archive"
  ((code == 0)) || return "$code"
  # The first commands that a worker gets: unpack the code, and hand over to it.
  # shellcheck disable=SC2016 # expands there
  on_workers_surely bash -c '
    set -euo pipefail
    folder=$HOME/poison_scaling/code/$2
    if [ ! -e "$folder/COMMIT" ]; then
      mkdir -p "$folder"
      gcloud storage cat "$1" > "$folder.tar.gz"
      echo "$4  $folder.tar.gz" | sha256sum --check --quiet
      tar -xzf "$folder.tar.gz" -C "$folder"
      echo "$2" > "$folder/COMMIT"
    fi
    exec timeout "$5" bash "$folder/launch/on_vm.sh" setup "$2" "$3"
  ' on_vm "$url" "$SENT" "$CACHE" "$sum" "$SETUP_SECONDS"
}

sha256() { python3 -c 'import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest())' "$1"; }

# Names of jobs are in order of time.
new_job() { printf '%s-%s' "$(date -u +%Y%m%dT%H%M%S)" "$RANDOM"; }

# Start a job on every worker: its name, then its command. Can be repeated.
start_job() {
  local job=$1
  shift
  # shellcheck disable=SC2016
  on_workers_surely bash -c 'exec bash "$HOME/poison_scaling/current/launch/on_vm.sh" "$@"' on_vm \
    start "$FOLDER/jobs/$job" "$@"
}

# Ask a job to stop, as a preemption would: it saves its state and exits with 75.
stop_job() {
  # shellcheck disable=SC2016
  on_workers_surely bash -c 'exec bash "$HOME/poison_scaling/current/launch/on_vm.sh" stop' on_vm
}

# The states of a job's workers, a line each (on_vm.sh writes them); nothing where there is none.
job_states() { gcloud storage cat "$FOLDER/jobs/$1/*.state" 2>/dev/null </dev/null || true; }
