# The HTML report and its tables, from all scores of a run.
rule report:
    input:
        scores=INPUTS.report,
        made_of=ancient(layout.REPORT_INPUTS.below(RESULTS)),
    output:
        index=report(
            f"{RESULTS}/reports/{{report}}/index.html",
            category="Report",
            labels={"file": "the full report"},
        ),
        csv=report(
            f"{RESULTS}/reports/{{report}}/leaderboard.csv",
            category="Leaderboard",
            labels={"file": "every score with its interval"},
        ),
        md=f"{RESULTS}/reports/{{report}}/leaderboard.md",
    log:
        layout.REPORT_LOGS.below(RESULTS),
    benchmark:
        layout.REPORT_BENCHMARKS.below(RESULTS)
    localrule: True
    conda:
        "../envs/environment.yaml"
    params:
        command=COMMAND,
        out=f"{RESULTS}/reports/{{report}}",
    message:
        "report {wildcards.report}"
    shell:
        "{params.command}/report.py --inputs {input.made_of:q} --out {params.out:q} --log {log:q}"
