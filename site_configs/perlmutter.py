"""Perlmutter at NERSC, its GPU nodes (docs.nersc.gov: systems/perlmutter, jobs/policy)."""

from __future__ import annotations

from quatrain.hpc.site import FileSystem, Qos, Site

HOUR_MIN = 60


def site() -> Site:
    """Return the GPU partition of Perlmutter: one EPYC 7763 (64 cores, 128 threads) and four A100 a node."""
    return Site(
        name="perlmutter",
        description="Perlmutter GPU nodes at NERSC, 4 A100 a node",
        cpus_per_node=128,
        memory_gb=256,
        gpus_per_node=4,
        gpu_workers=4,
        gpu_order="reversed",
        scheduler="slurm",
        poll_s=60,  # NERSC asks for no more than one or two questions a minute
        max_blocks=1,  # two shapes make two jobs, and only two jobs of a user gain priority by waiting
        exclusive=False,  # whole nodes come with every qos but shared
        features=("gpu",),
        licenses=("scratch", "cfs"),
        qos=(
            Qos(name="regular", max_walltime_min=48 * HOUR_MIN),
            Qos(name="debug", max_walltime_min=30, max_nodes=8),
            Qos(name="interactive", max_walltime_min=4 * HOUR_MIN, max_nodes=4, interactive=True),
            Qos(name="shared", max_walltime_min=48 * HOUR_MIN, max_nodes=1, max_gpus_per_node=2),
            Qos(name="preempt", max_walltime_min=48 * HOUR_MIN, charge=0.25),
        ),
        default_qos="debug",
        limits_checked="2026-11",
        account_pattern=r"[a-z][a-z0-9]*_g",
        account_example="m1234_g",
        file_systems=(
            FileSystem(name="scratch", path="$PSCRATCH", note="Lustre, fast, purged after 8 weeks: runs go here"),
            FileSystem(name="cfs", path="/global/cfs/cdirs/PROJECT", note="shared by a project, kept"),
            FileSystem(name="home", path="$HOME", note="40 GB, backed up: code only"),
        ),
        environment={
            "SLURM_CPU_BIND": "cores",
            "NCCL_SOCKET_IFNAME": "hsn",
            "NCCL_CROSS_NIC": "1",
            "NCCL_NET_GDR_LEVEL": "PHB",
            "FI_CXI_DISABLE_HOST_REGISTER": "1",
            "FI_MR_CACHE_MONITOR": "userfaultfd",
            "HDF5_USE_FILE_LOCKING": "FALSE",
        },
        scheduler_options=("--gpu-bind=none",),  # GPUs bound to single tasks cannot reach each other over NCCL
        srun_options=("--gpu-bind=none",),
    )
