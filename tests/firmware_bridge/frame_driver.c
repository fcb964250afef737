/* Does with vagus_frame.h what it is told on stdin, and answers on stdout. Told: an operation, a u32 size, data.
 * Answered: a u32 size, data, which begins with the status. */
#include "vagus_frame.h"

#include <stdio.h>
#include <stdlib.h>

#define ROOM (1u << 21)

static uint8_t told[ROOM], answer[2 * ROOM], scratch[ROOM], held[VAGUS_MAX_LINE];
static size_t answered;

static void add(const void *data, size_t size) {
    if (size > sizeof answer - answered) {
        abort();
    }
    memcpy(answer + answered, data, size);
    answered += size;
}

static void add_u32(uint32_t value) {
    uint8_t bytes[4];
    vagus_put_u32(bytes, value);
    add(bytes, sizeof bytes);
}

static void add_status(vagus_status status) {
    uint8_t byte = (uint8_t)status;
    add(&byte, 1);
}

/* Each sample read as a number and written again: the numbers into the answer, the samples to `out`. */
static void copy_samples(const vagus_frame *frame, uint8_t *out) {
    size_t k, width = vagus_width(frame->format);
    for (k = 0; k < (size_t)frame->count * frame->channels; k++) {
        const uint8_t *at = frame->samples + k * width;
        if (frame->format == VAGUS_INT16) {
            int16_t value = vagus_get_int16(at);
            vagus_put_int16(out + k * width, value);
            add_u32((uint32_t)(int32_t)value);
        } else if (frame->format == VAGUS_INT24) {
            int32_t value = vagus_get_int24(at);
            vagus_put_int24(out + k * width, value);
            add_u32((uint32_t)value);
        } else {
            vagus_put_float32(out + k * width, vagus_get_float32(at));
        }
    }
}

static void decode_frame(size_t size) {
    vagus_frame frame;
    uint8_t fields[31];
    size_t written;
    vagus_status status = vagus_frame_decode(told, size, &frame);
    add_status(status);
    if (status != VAGUS_OK) {
        return;
    }
    vagus_put_u64(fields, frame.time_us);
    vagus_put_u32(fields + 8, frame.sequence);
    vagus_put_u32(fields + 12, frame.rate_mhz);
    vagus_put_u32(fields + 16, frame.count);
    vagus_put_float32(fields + 20, frame.scale);
    vagus_put_u16(fields + 24, frame.boot_id);
    fields[26] = frame.stream_id;
    fields[27] = frame.flags;
    fields[28] = frame.format;
    fields[29] = frame.channels;
    fields[30] = frame.unit;
    add(fields, sizeof fields);
    copy_samples(&frame, scratch + VAGUS_FRAME_HEADER);
    frame.samples = scratch + VAGUS_FRAME_HEADER;
    if (vagus_frame_encode(&frame, scratch, sizeof scratch, &written) != VAGUS_OK) {
        abort();
    }
    if (vagus_frame_encode(&frame, scratch, written - 1, &size) != VAGUS_NO_ROOM) {
        abort();
    }
    add(scratch, written);
}

static void encode_frame(size_t size) {
    vagus_frame frame;
    size_t written;
    vagus_status status;
    frame.time_us = vagus_get_u64(told);
    frame.sequence = vagus_get_u32(told + 8);
    frame.rate_mhz = vagus_get_u32(told + 12);
    frame.count = vagus_get_u32(told + 16);
    frame.scale = vagus_get_float32(told + 20);
    frame.boot_id = vagus_get_u16(told + 24);
    frame.stream_id = told[26];
    frame.flags = told[27];
    frame.format = told[28];
    frame.channels = told[29];
    frame.unit = told[30];
    frame.samples = told + 31;
    status = vagus_frame_encode(&frame, scratch, 31 + size, &written);
    add_status(status);
    add(scratch, written);
}

static void decode_resend(size_t size) {
    vagus_resend request;
    uint8_t fields[9];
    vagus_status status = vagus_resend_decode(told, size, &request);
    add_status(status);
    if (status != VAGUS_OK) {
        return;
    }
    vagus_put_u32(fields, request.first);
    vagus_put_u16(fields + 4, request.boot_id);
    vagus_put_u16(fields + 6, request.count);
    fields[8] = request.stream_id;
    add(fields, sizeof fields);
}

static void encode_resend(void) {
    vagus_resend request;
    vagus_status status;
    request.first = vagus_get_u32(told);
    request.boot_id = vagus_get_u16(told + 4);
    request.count = vagus_get_u16(told + 6);
    request.stream_id = told[8];
    status = vagus_resend_encode(&request, scratch);
    add_status(status);
    add(scratch, status == VAGUS_OK ? VAGUS_RESEND_SIZE : 0);
}

static void read_line(vagus_line *line, size_t size) {
    size_t k, got;
    add_status(VAGUS_OK);
    for (k = 0; k < size; k++) {
        vagus_status status = vagus_line_push(line, told[k], &got);
        if (status != VAGUS_MORE) {
            add_status(status);
            add_u32((uint32_t)got);
            add(line->buffer, got);
        }
    }
}

int main(void) {
    vagus_line line;
    uint8_t head[5];
    vagus_line_begin(&line, held, sizeof held);
    while (fread(head, 1, sizeof head, stdin) == sizeof head) {
        size_t size = vagus_get_u32(head + 1), written;
        if (size > sizeof told || fread(told, 1, size, stdin) != size) {
            return 1;
        }
        answered = 0;
        switch (head[0]) {
        case 'F': decode_frame(size); break;
        case 'E': encode_frame(size); break;
        case 'R': decode_resend(size); break;
        case 'Q': encode_resend(); break;
        case 'L': read_line(&line, size); break;
        case 'S':
            add_status(vagus_line_encode(told, size, scratch, vagus_line_room(size), &written));
            add(scratch, written);
            break;
        case 'U':
            add_status(vagus_cobs_decode(told, size, told, &written));
            add(told, written);
            break;
        default: return 2;
        }
        vagus_put_u32(head, (uint32_t)answered);
        fwrite(head, 1, 4, stdout);
        fwrite(answer, 1, answered, stdout);
    }
    return 0;
}
