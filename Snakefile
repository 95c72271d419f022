# notebook × parameters → executed page → book. One run (profile, data set, seeds) at a time:
#     python -m snakemake --workflow-profile executors/common --cores 2 --config profile=laptop
# A page is executed again when its digest changes, whatever the files' times say: see compatlib/study/publishing/runs.py.
import sys

sys.path.insert(0, workflow.basedir)

from compatlib.study.publishing import runs

run = runs.Run.from_config(config)
folder = f"build/{run.name}"


localrules:
    html,


rule book:
    default_target: True
    input:
        f"{folder}/html/index.html",


rule execute:
    output:
        f"{folder}/pages/{{page}}.ipynb",
    log:
        notebook=f"{folder}/logs/{{page}}.ipynb",
        text=f"{folder}/logs/{{page}}.log",
    params:
        notebook="notebooks/{page}.ipynb",  # no input: its digest counts, and Snakemake fails on a time in the future
        digest=lambda wildcards: runs.page_digest(wildcards.page, run),
        values=lambda wildcards: " ".join(f"-p {name} '{value}'" for name, value in run.parameters.items()),
    threads: 2
    shell:
        "{sys.executable:q} -m compatlib.study.publishing.pages execute --notebook {params.notebook:q} --output {output:q}"
        " --log {log.notebook:q} {params.values} 2>&1 | tee -i {log.text:q}"


rule html:
    input:
        expand(f"{folder}/pages/{{page}}.ipynb", page=runs.page_names()),
    output:
        f"{folder}/html/index.html",
    log:
        f"{folder}/logs/html.log",
    params:
        digest=lambda wildcards: runs.book_digest(run),
        values=" ".join(f"--{name} '{value}'" for name, value in run.parameters.items()),
    shell:
        "{sys.executable:q} -m compatlib.study.publishing.book {params.values} 2>&1 | tee -i {log:q}"
