"""All benchmarks, one after the other: `python -m benchmarks`. Results are kept in RESULTS.md."""

from benchmarks import decoding, filters, reading, report, train_step

if __name__ == "__main__":
    for benchmark in (reading, train_step, decoding, report, filters):
        benchmark.main()
