#!/usr/bin/env bash
# Bring a study home from its bucket: plans, manifests, metrics and evaluations, not the checkpoints.
#
#   launch/pull.sh gs://BUCKET/STUDY FOLDER [--dry-run]
#
# Can be repeated while runs are still going; a file is copied again when it has changed. Then:
#   python -m analysis FOLDER --out FOLDER/report

# shellcheck source=launch/slice.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/slice.sh"

parse "$@"
((${#OTHERS[@]} == 2)) || die "pull.sh: give the study's folder in the bucket, and a folder here."
study=${OTHERS[0]%/} folder=${OTHERS[1]}
[[ $study == gs://?* ]] || die "pull.sh $study: a folder in a bucket begins with gs://."

[[ $DRY_RUN == yes ]] || mkdir -p -- "$folder"
cloud storage rsync --recursive --quiet '--exclude=(.*/)?(checkpoints|report)/.*|(.*/)?\..*' "$study" "$folder"
say "the report: $(quoted python -m analysis "$folder" --out "$folder/report")"
