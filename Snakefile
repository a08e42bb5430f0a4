# Shardmark: models x data sets -> requests -> predictions -> scores -> report.
# The plan is made here, while this file is parsed; docs/architecture.md says why. Rules are in rules/.
import gc
import os
import re
import sys
import tarfile
import tempfile
from pathlib import Path

from snakemake import common, rules as rule_module
from snakemake.dag import DAG
from snakemake.logging import logger
from snakemake.scheduling.job_scheduler import JobScheduler
from snakemake.sourcecache import LocalGitFile, LocalSourceFile
from snakemake.utils import min_version, update_config

min_version("9.17")

# The folder of this file. As a module from a git repository, it has none: Snakemake takes Snakefiles alone from there.
# All of that commit is then put below .snakemake, where the jobs of a cluster find it, too.
THIS = workflow.current_basedir
if isinstance(THIS, LocalSourceFile):
    HERE = THIS.get_path_or_uri(secret_free=True)
else:
    import git

    GIT = git.Repo(THIS.repo_path) if isinstance(THIS, LocalGitFile) else THIS.hosted_repo.repo
    COMMIT = GIT.commit(THIS.ref).hexsha
    HERE = os.path.abspath(f".snakemake/shardmark/{COMMIT}")
    if not os.path.isdir(HERE):
        os.makedirs(f"{HERE}.{os.getpid()}")
        with tempfile.TemporaryFile() as archive:
            GIT.archive(archive, COMMIT)
            archive.seek(0)
            tarfile.open(fileobj=archive).extractall(f"{HERE}.{os.getpid()}", filter="data")
        Path(f"{HERE}.{os.getpid()}/.commit").write_text(COMMIT)  # for the provenance of scores
        if not os.path.isdir(HERE):  # another process may have been quicker
            os.rename(f"{HERE}.{os.getpid()}", HERE)
    HERE = os.path.normpath(f"{HERE}/{THIS.path}")
sys.path.insert(0, f"{HERE}/scripts")

import shardmark.command  # first: from here on, an interrupt has no traceback
from shardmark import layout
from shardmark.config.offline import use_offline
from shardmark.installation import INSTALLATION
from shardmark.workflow.completeness import missing_targets, trusts_files
from shardmark.workflow.output import calm
from shardmark.workflow.progress import Course
from shardmark.workflow.rule_inputs import SHARDS, Inputs, inspect_once
from shardmark.workflow.interrupts import ends_at_once, ends_with_terminal, terminates
from shardmark.workflow.module import take_part
from shardmark.plan.endpoints import use_max_cost
from shardmark.plan.machine import use_scratch
from shardmark.workflow.snakefile import (
    TOOLS,
    check_or_exit,
    check_partitions,
    cores_here,
    fail,
    finish,
    image_or_exit,
    local_limits,
    not_planned,
    plan_or_exit,
    preflight_or_exit,
    prepare,
    prepare_cluster,
    python_command,
    tool_config,
    tool_options,
    tool_wanted,
    uses_conda,
)
from shardmark.workflow.unfinished import publish_unfinished
from shardmark.workflow.warm_starts import start_servers

# Python need not search what has been imported for garbage; profiles/default has begun this.
gc.freeze()
gc.enable()

MAIN = workflow.modifier.is_main_snakefile()  # else another Snakefile has this one as a module
if workflow.modifier.skip_configfile:
    pass  # the module is given its `config`
elif not workflow.overwrite_configfiles:
    check_or_exit(Path("config/config.yaml"))

    configfile: "config/config.yaml"

elif not MAIN:
    update_config(config, workflow.config_settings.overwrite_config)


RESULTS = config.get("results", "results")
IMAGE = image_or_exit(config, workflow)
COMMAND = python_command(workflow, image=IMAGE)
WARM = python_command(workflow, "-S", image=IMAGE)  # it starts sooner without packages, of which warm.py needs none
CALLED = " + ".join(map(str, workflow.configfiles)) or "--config"

# Before anything of Hugging Face is imported, in jobs on a cluster as well.
use_offline(config, workflow.is_main_process)

# Jobs on a cluster parse this file as well: they know their files from the wildcards and need no plan.
# Nor do the commands among the targets: `relock` must work where a plan is refused.
TOOL = workflow.is_main_process and tool_wanted()
TOOL_CONFIG = tool_config(config, RESULTS) if TOOL else ""
PLANS = workflow.is_main_process and not TOOL
CORES = cores_here(workflow.resource_settings)
LOCAL = PLANS and CORES is not None
FORKS = LOCAL and not IMAGE and not uses_conda(workflow)  # jobs are forks of processes with their imports done

# Variables of all jobs, before a process is started for them.
use_scratch(config)
use_max_cost(config)

PLAN = (
    plan_or_exit(config, CALLED, workflow.config_settings.config, CORES, workflow.resource_settings.nodes, FORKS)
    if PLANS
    else None
)
TARGETS = PLAN.targets() if PLAN else not_planned if TOOL else []
INPUTS = Inputs(
    RESULTS,
    config,
    main=workflow.is_main_process,
    order=PLAN.model_names() if PLAN else [],
    later=PLAN.later() if PLAN else [],
    bundles=PLAN.bundles if PLAN and not LOCAL else [],
    defaults=workflow.resource_settings.default_resources,
    overrides=workflow.resource_settings.overwrite_resources.get("infer"),
)

if PLAN and not LOCAL:
    check_partitions(PLAN, (workflow.resource_settings.default_resources or {}).get("slurm_partition"))
    prepare_cluster(INSTALLATION)

terminates(JobScheduler)
ends_at_once(JobScheduler)
if LOCAL:  # jobs on a cluster go on without a terminal
    ends_with_terminal()
trusts_files(DAG)
inspect_once(common, rule_module)

# A few lines, and not nine a job; jobs on a cluster tell all, in their logs.
if workflow.is_main_process:
    calm(logger, workflow)

# Its words are Snakemake's own, so they are on the terminal and in the log of the run.
COURSE = Course(PLAN, logger.info, logger.error)

# What is there when a job of several shards is tried again is right, and must not be deleted.
KEPT = str if LOCAL else update

# On a cluster, the shards of a job run one after the other (worker=1), and it asks for its model's GPUs once.
for name, count in (local_limits(config) if LOCAL else {"worker": 1}).items():
    if name not in workflow.global_resources:
        workflow.resource_settings.resources[name] = count

for name in INPUTS.group_names():
    workflow.parent_groupids[name] = SHARDS  # so that group-components of the profile counts for all of them


container: IMAGE


resource_scopes:
    worker="local",


wildcard_constraints:
    **layout.FIELDS,


# Which predictions an endpoint makes; none in the processes of jobs, which those of endpoints have not.
ENDPOINTS = "|".join(map(re.escape, PLAN.endpoint_names())) if PLAN else ""


rule all:
    default_target: True
    input:
        TARGETS,
    localrule: True
    message:
        "all scores and the report are complete"


onstart:
    prepare(workflow, RESULTS)
    preflight_or_exit(PLAN, workflow)
    if FORKS:
        start_servers(PLAN, CORES)
    COURSE.begin()


onsuccess:
    COURSE.end()
    finish(PLAN, missing_targets(workflow.dag))


onerror:
    fail(PLAN)
    COURSE.fail()
    publish_unfinished(PLAN, COURSE.begun, workflow, python_command(workflow))


if not MAIN:
    take_part(workflow)


include: f"{HERE}/rules/stage.smk"
include: f"{HERE}/rules/infer.smk"
include: f"{HERE}/rules/score.smk"
include: f"{HERE}/rules/report.smk"
include: f"{HERE}/rules/tools.smk"
