# The HTML report and its tables, from all scores of a run.
rule report:
    input:
        scores=INPUTS.report,
        made_of=ancient(layout.REPORT_INPUTS.below(RESULTS)),
    output:
        index=f"{RESULTS}/reports/{{report}}/index.html",
        # What `snakemake --report` takes into its own page: there, links to the report's other pages would be dead.
        html=report(
            f"{RESULTS}/reports/{{report}}/leaderboard.html",
            caption="captions/leaderboard.rst",
            category="Leaderboard",
            labels={"table": "models and data sets"},
        ),
        csv=report(
            f"{RESULTS}/reports/{{report}}/leaderboard.csv",
            caption="captions/scores.rst",
            category="Leaderboard",
            labels={"table": "every score with its interval"},
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
        command=WARM,
        out=f"{RESULTS}/reports/{{report}}",
    message:
        "report {wildcards.report}"
    shell:
        "{params.command}/warm.py --if-there score $PPID report.py --inputs {input.made_of:q} --out {params.out:q} --log {log:q}"
