/* A VST3 that can do wrong in every way a plugin can, for the tests. Its ABI is declared here, as far as it is
   used, from the published description of the VST 3 module architecture; nothing of the SDK is needed.

   Set when it is compiled:
     NAME      what it calls itself
     DELAY     by how many frames its output is late
     REPORTED  how many it says
     CHANNELS  the one number of channels it takes, or 0 for one and two
     AT_LOAD   0: loads; 1: aborts; 2: hangs, and so does a process that it starts; 3: crashes
     CLASSES   how many plugins the bundle holds, 1 or 2; the second is NAME and " Two", and halves
   Set while it runs, as raw values:
     Gain      the factor
     Fault     0: none; 0.2: crash; 0.4: abort; 0.6: hang; 0.8: NaN; 1: silence
     Trigger   0: at once; 1: when a sample beyond 1.5 comes in
   Its state is those three. Where it hangs it makes the file STEMBRIDGE_TEST_HANGS, if that is set. It chatters on stdout, aborts where it finds a display to draw on,
   and is silent for a block of another length than it was set up for. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef NAME
#define NAME "Fixture"
#endif
#ifndef DELAY
#define DELAY 0
#endif
#ifndef REPORTED
#define REPORTED 0
#endif
#ifndef CHANNELS
#define CHANNELS 0
#endif
#ifndef CLASSES
#define CLASSES 1
#endif
#ifndef AT_LOAD
#define AT_LOAD 0
#endif

enum { OK = 0, NO = 1, NO_INTERFACE = -1, PARAMETERS = 3, MOST_CHANNELS = 2 };
enum { GAIN, FAULT, TRIGGER };

typedef char Id[16];
typedef uint16_t Text[128];

static const Id UNKNOWN = "\0\0\0\0\0\0\0\0\xC0\0\0\0\0\0\0\x46";
static const Id FACTORY = "\x7A\x4D\x81\x1C\x52\x11\x4A\x1F\xAE\xD9\xD2\xEE\x0B\x43\xBF\x9F";
static const Id BASE = "\x22\x88\x8D\xDB\x15\x6E\x45\xAE\x83\x58\xB3\x48\x08\x19\x06\x25";
static const Id COMPONENT = "\xE8\x31\xFF\x31\xF2\xD5\x43\x01\x92\x8E\xBB\xEE\x25\x69\x78\x02";
static const Id PROCESSOR = "\x42\x04\x3F\x99\xB7\xDA\x45\x3C\xA5\x69\xE7\x9D\x9A\xAE\xC3\x3D";
static const Id CONTROLLER = "\xDC\xD7\xBB\xE3\x77\x42\x44\x8D\xA8\x74\xAA\xCC\x97\x9C\x75\x9E";
static const Id OWN = "stembridge-fixtu";
static const Id SECOND = "stembridge-fixt2";

/* The host's side. */
typedef struct { void *first[3]; int32_t (*read)(void *, void *, int32_t, int32_t *);
                 int32_t (*write)(void *, void *, int32_t, int32_t *); } StreamTable;
typedef struct { const StreamTable *table; } Stream;
typedef struct { void *first[3]; uint32_t (*id)(void *); int32_t (*count)(void *);
                 int32_t (*point)(void *, int32_t, int32_t *, double *); } QueueTable;
typedef struct { const QueueTable *table; } Queue;
typedef struct { void *first[3]; int32_t (*count)(void *); Queue *(*queue)(void *, int32_t); } ChangesTable;
typedef struct { const ChangesTable *table; } Changes;

typedef struct { char vendor[64], url[256], email[128]; int32_t flags; } FactoryInfo;
typedef struct { Id id; int32_t cardinality; char category[32], name[64]; } ClassInfo;
typedef struct { int32_t media, direction, channels; Text name; int32_t type; uint32_t flags; } BusInfo;
typedef struct { uint32_t id; Text title, short_title, units; int32_t steps; double usual;
                 int32_t unit, flags; } ParameterInfo;
typedef struct { int32_t mode, size, most_frames; double rate; } Setup;
typedef struct { int32_t channels; uint64_t silence; float **samples; } Bus;
typedef struct { int32_t mode, size, frames, inputs, outputs; Bus *in, *out; Changes *changes; } Block;

/* One object with a face per interface. */
typedef struct Plugin {
    const void *component, *processor, *controller;
    int32_t references, channels, block;
    double values[PARAMETERS];
    float *line[MOST_CHANNELS];
    int32_t at;
} Plugin;

static int32_t find(Plugin *plugin, const char *id, void **found)
{
    *found = NULL;
    if (!memcmp(id, UNKNOWN, 16) || !memcmp(id, BASE, 16) || !memcmp(id, COMPONENT, 16))
        *found = &plugin->component;
    else if (!memcmp(id, PROCESSOR, 16))
        *found = &plugin->processor;
    else if (!memcmp(id, CONTROLLER, 16))
        *found = &plugin->controller;
    if (*found == NULL)
        return NO_INTERFACE;
    plugin->references++;
    return OK;
}

static uint32_t let_go(Plugin *plugin)
{
    if (--plugin->references > 0)
        return (uint32_t)plugin->references;
    for (int channel = 0; channel < MOST_CHANNELS; channel++)
        free(plugin->line[channel]);
    free(plugin);
    return 0;
}

#define FACE(name, place)                                                                     \
    static Plugin *of_##name(void *face) { return (Plugin *)((const void **)face - place); } \
    static int32_t find_##name(void *face, const char *id, void **found)                     \
    { return find(of_##name(face), id, found); }                                             \
    static uint32_t hold_##name(void *face) { return (uint32_t)++of_##name(face)->references; } \
    static uint32_t let_go_##name(void *face) { return let_go(of_##name(face)); }
FACE(component, 0)
FACE(processor, 1)
FACE(controller, 2)

static void spell(uint16_t *text, const char *plain)
{
    while ((*text++ = (uint16_t)*plain++) != 0)
        ;
}

static int32_t accept(void) { return OK; }
static int32_t refuse(void) { return NO; }
static int32_t initialise(void *face, void *host) { (void)face; (void)host; return OK; }

/* Component. */
static int32_t controller_id(void *face, char *id) { (void)face; memcpy(id, OWN, 16); return OK; }
static int32_t count_buses(void *face, int32_t media, int32_t direction)
{ (void)face; (void)direction; return media == 0; }

static int32_t describe_bus(void *face, int32_t media, int32_t direction, int32_t index, BusInfo *info)
{
    if (media != 0 || index != 0)
        return NO;
    memset(info, 0, sizeof *info);
    info->direction = direction;
    info->channels = of_component(face)->channels;
    info->flags = 1;
    spell(info->name, "main");
    return OK;
}

static int32_t set_active(void *face, char is_active)
{
    Plugin *plugin = of_component(face);
    if (is_active) {
        plugin->at = 0;
        for (int channel = 0; channel < MOST_CHANNELS; channel++)
            memset(plugin->line[channel], 0, (DELAY + 1) * sizeof(float));
    }
    return OK;
}

static int32_t restore(Plugin *plugin, Stream *stream)
{
    double values[PARAMETERS];
    int32_t got = 0;
    if (stream->table->read(stream, values, sizeof values, &got) != OK || got != (int32_t)sizeof values)
        return NO;
    memcpy(plugin->values, values, sizeof values);
    return OK;
}
static int32_t set_component_state(void *face, Stream *stream) { return restore(of_component(face), stream); }
static int32_t set_controllers_state(void *face, Stream *stream) { return restore(of_controller(face), stream); }
static int32_t get_component_state(void *face, Stream *stream)
{
    int32_t put = 0;
    return stream->table->write(stream, of_component(face)->values, sizeof(double) * PARAMETERS, &put);
}

/* Processor. */
static int32_t take_arrangement(void *face, uint64_t *in, int32_t inputs, uint64_t *out, int32_t outputs)
{
    int32_t channels = 0;
    if (inputs != 1 || outputs != 1 || *in != *out)
        return NO;
    for (uint64_t speakers = *in; speakers; speakers &= speakers - 1)
        channels++;
    if (channels < 1 || channels > MOST_CHANNELS || (CHANNELS != 0 && channels != CHANNELS))
        return NO;
    of_processor(face)->channels = channels;
    return OK;
}
static int32_t tell_arrangement(void *face, int32_t direction, int32_t index, uint64_t *speakers)
{
    (void)direction;
    if (index != 0)
        return NO;
    *speakers = of_processor(face)->channels == 1 ? 1u << 19 : 3u;
    return OK;
}
static int32_t takes_size(void *face, int32_t size) { (void)face; return size == 0 ? OK : NO; }
static uint32_t latency(void *face) { (void)face; return REPORTED; }
static uint32_t tail(void *face) { (void)face; return 0; }

static int32_t set_up(void *face, const Setup *setup)
{
    of_processor(face)->block = setup->most_frames;
    return OK;
}

static void take_changes(Plugin *plugin, Changes *changes)
{
    int32_t count = changes == NULL ? 0 : changes->table->count(changes);
    for (int32_t index = 0; index < count; index++) {
        Queue *queue = changes->table->queue(changes, index);
        int32_t points = queue->table->count(queue), offset;
        uint32_t id = queue->table->id(queue);
        double value;
        if (points > 0 && id < PARAMETERS && queue->table->point(queue, points - 1, &offset, &value) == OK)
            plugin->values[id] = value;
    }
}

static int is_triggered(const Plugin *plugin, const Block *block)
{
    if (plugin->values[TRIGGER] < 0.5)
        return 1;
    for (int32_t channel = 0; channel < block->in->channels; channel++)
        for (int32_t frame = 0; frame < block->frames; frame++)
            if (block->in->samples[channel][frame] > 1.5f)
                return 1;
    return 0;
}

static void hang(void)
{
    const char *path = getenv("STEMBRIDGE_TEST_HANGS");
    FILE *file = path == NULL ? NULL : fopen(path, "w");

    if (file != NULL)
        fclose(file);
    for (;;)
        sleep(1);
}

static int32_t process(void *face, Block *block)
{
    Plugin *plugin = of_processor(face);
    int32_t at = plugin->at;
    int fault;

    take_changes(plugin, block->changes);
    fault = (int)(plugin->values[FAULT] * 5.0 + 0.5);
    if (block->frames == 0 || block->inputs < 1 || block->outputs < 1)
        return OK;
    if (fault && !is_triggered(plugin, block))
        fault = 0;
    if (fault == 1)
        *(volatile int *)8 = 1;
    if (fault == 2)
        abort();
    if (fault == 3)
        hang();
    for (int32_t channel = 0; channel < block->out->channels && channel < MOST_CHANNELS; channel++) {
        const float *in = block->in->samples[channel];
        float *out = block->out->samples[channel], *line = plugin->line[channel];
        at = plugin->at;
        for (int32_t frame = 0; frame < block->frames; frame++) {
            line[at] = in[frame];
            at = (at + 1) % (DELAY + 1);
            out[frame] = line[at] * (float)plugin->values[GAIN];
            if (fault == 5 || block->frames != plugin->block)
                out[frame] = 0.0f;
        }
        if (fault == 4)
            out[block->frames / 2] = 0.0f / 0.0f;
    }
    plugin->at = at;
    return OK;
}

/* Controller. */
static int32_t count_parameters(void *face) { (void)face; return PARAMETERS; }

static int32_t describe_parameter(void *face, int32_t index, ParameterInfo *info)
{
    static const char *names[PARAMETERS] = {"Gain", "Fault", "Trigger"};
    (void)face;
    if (index < 0 || index >= PARAMETERS)
        return NO;
    memset(info, 0, sizeof *info);
    info->id = (uint32_t)index;
    info->usual = index == GAIN;
    info->flags = 1;
    spell(info->title, names[index]);
    spell(info->short_title, names[index]);
    return OK;
}

static int32_t spell_value(void *face, uint32_t id, double value, uint16_t *text)
{
    char plain[32];
    (void)face; (void)id;
    snprintf(plain, sizeof plain, "%.3f", value);
    spell(text, plain);
    return OK;
}
static int32_t read_value(void *face, uint32_t id, uint16_t *text, double *value)
{
    char plain[32] = {0};
    (void)face; (void)id;
    for (int place = 0; place < 31 && text[place]; place++)
        plain[place] = (char)text[place];
    *value = atof(plain);
    return OK;
}
static double same(void *face, uint32_t id, double value) { (void)face; (void)id; return value; }
static double get_value(void *face, uint32_t id) { return id < PARAMETERS ? of_controller(face)->values[id] : 0; }
static int32_t set_value(void *face, uint32_t id, double value)
{
    if (id >= PARAMETERS)
        return NO;
    of_controller(face)->values[id] = value;
    return OK;
}
static void *no_view(void *face, const char *name) { (void)face; (void)name; return NULL; }

static const void *const COMPONENT_TABLE[] = {
    find_component, hold_component, let_go_component, initialise, accept, controller_id, accept, count_buses,
    describe_bus, refuse, accept, set_active, set_component_state, get_component_state};
static const void *const PROCESSOR_TABLE[] = {
    find_processor, hold_processor, let_go_processor, take_arrangement, tell_arrangement, takes_size, latency,
    set_up, accept, process, tail};
static const void *const CONTROLLER_TABLE[] = {
    find_controller, hold_controller, let_go_controller, initialise, accept, set_controllers_state, accept,
    accept, count_parameters, describe_parameter, spell_value, read_value, same, same, get_value, set_value,
    accept, no_view};

/* Factory. */
static int32_t find_factory(void *face, const char *id, void **found)
{
    *found = !memcmp(id, UNKNOWN, 16) || !memcmp(id, FACTORY, 16) ? face : NULL;
    return *found ? OK : NO_INTERFACE;
}
static uint32_t stay(void *face) { (void)face; return 1; }
static int32_t describe_factory(void *face, FactoryInfo *info)
{
    (void)face;
    memset(info, 0, sizeof *info);
    strcpy(info->vendor, "Stembridge");
    return OK;
}
static int32_t count_classes(void *face) { (void)face; return CLASSES; }
static int32_t describe_class(void *face, int32_t index, ClassInfo *info)
{
    (void)face;
    if (index < 0 || index >= CLASSES)
        return NO;
    memset(info, 0, sizeof *info);
    memcpy(info->id, index ? SECOND : OWN, 16);
    info->cardinality = 0x7FFFFFFF;
    strcpy(info->category, "Audio Module Class");
    strcpy(info->name, index ? NAME " Two" : NAME);
    return OK;
}
static int32_t create(void *face, const char *class_id, const char *id, void **made)
{
    Plugin *plugin;
    int32_t result;
    (void)face;
    *made = NULL;
    if (memcmp(class_id, OWN, 16) && memcmp(class_id, SECOND, 16))
        return NO;
    plugin = calloc(1, sizeof *plugin);
    plugin->component = COMPONENT_TABLE;
    plugin->processor = PROCESSOR_TABLE;
    plugin->controller = CONTROLLER_TABLE;
    plugin->references = 1;
    plugin->channels = CHANNELS ? CHANNELS : 2;
    plugin->values[GAIN] = memcmp(class_id, SECOND, 16) ? 1.0 : 0.5;
    for (int channel = 0; channel < MOST_CHANNELS; channel++)
        plugin->line[channel] = calloc(DELAY + 1, sizeof(float));
    result = find(plugin, id, made);
    let_go(plugin);
    return result;
}

static const void *const FACTORY_TABLE[] = {find_factory, stay, stay, describe_factory, count_classes,
                                            describe_class, create};
static const void *const THE_FACTORY = FACTORY_TABLE;

const void *GetPluginFactory(void)
{
    puts("chatter on stdout that must reach nobody");
    fflush(stdout);
    if (AT_LOAD == 1 || getenv("DISPLAY") != NULL || getenv("WAYLAND_DISPLAY") != NULL)
        abort();
    /* As a plugin does that has a helper: it holds the same pipes. */
    if (AT_LOAD == 2)
        fork();
    if (AT_LOAD == 2)
        hang();
    if (AT_LOAD == 3)
        *(volatile int *)8 = 1;
    return &THE_FACTORY;
}
char ModuleEntry(void *handle) { (void)handle; return 1; }
char ModuleExit(void) { return 1; }
