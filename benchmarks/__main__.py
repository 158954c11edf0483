"""All benchmarks, one after the other: `python -m benchmarks`. Results are kept in RESULTS.md."""

from benchmarks import reading

if __name__ == "__main__":
    reading.main()
