/* Teaches a Slurm the three options that NERSC's Shifter adds to sbatch, salloc and srun. Their values reach the job
 * as SLURM_SPANK_SHIFTER_IMAGE, _VOLUME and _MODULE, where the look-alike of the shifter command finds them. */
#include <stdio.h>
#include <stdlib.h>

#include <slurm/spank.h>

SPANK_PLUGIN(shifter_options, 1);

static const char *const names[] = {"IMAGE", "VOLUME", "MODULE"};

/* Called where the option was given (remote == 0) and again on each node, whose environment already has the value. */
static int keep(int which, const char *value, int remote)
{
    char name[64];

    if (remote || value == NULL)
        return ESPANK_SUCCESS;
    snprintf(name, sizeof name, "SLURM_SPANK_SHIFTER_%s", names[which]);
    return setenv(name, value, 1) == 0 ? ESPANK_SUCCESS : ESPANK_ERROR;
}

static struct spank_option options[] = {
    {"image", "type:name", "the container's image", 1, 0, keep},
    {"volume", "from:to", "folders seen in the container", 1, 1, keep},
    {"module", "a,b", "parts of the host put into the container", 1, 2, keep},
    SPANK_OPTIONS_TABLE_END,
};

int slurm_spank_init(spank_t spank, int argc, char *argv[])
{
    (void)argc;
    (void)argv;
    for (struct spank_option *option = options; option->name != NULL; option++)
        if (spank_option_register(spank, option) != ESPANK_SUCCESS)
            return ESPANK_ERROR;
    return ESPANK_SUCCESS;
}
