/* The frames of FRAME.md for firmware: encode, decode, CRC-32, COBS, reading a serial line, resend requests.
 *
 * One header, C99 or C++, no allocation, no global state, no floating-point arithmetic, no reliance on byte order or
 * alignment. Every function is reentrant; buffers are the caller's. See README.md beside it for an example.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef VAGUS_FRAME_H
#define VAGUS_FRAME_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define VAGUS_FRAME_VERSION 1u
#define VAGUS_FRAME_HEADER 32u
#define VAGUS_FRAME_OVERHEAD 36u /* bytes of a frame besides its samples */
#define VAGUS_MAX_CHANNELS 16u
#define VAGUS_MAX_COUNT 131072u
#define VAGUS_MAX_RATE_MHZ 4000000u
#define VAGUS_MAX_LINE 65536u /* bytes between two delimiters on a serial line */
#define VAGUS_RESEND_SIZE 16u
#define VAGUS_RESEND_MESSAGE 0x52u
#define VAGUS_RESEND_MAX 256u

#define VAGUS_FLAG_UTC 1u /* the time is since 1970-01-01T00:00:00Z, not since the device's start */

/* Sample formats. */
#define VAGUS_INT16 1u
#define VAGUS_INT24 2u
#define VAGUS_FLOAT32 3u

/* Units of sample * scale. */
#define VAGUS_UNIT_AS_CONFIGURED 0u
#define VAGUS_UNIT_MV 1u
#define VAGUS_UNIT_UV 2u
#define VAGUS_UNIT_V 3u
#define VAGUS_UNIT_1 4u
#define VAGUS_UNIT_MMHG 5u
#define VAGUS_UNIT_G 6u
#define VAGUS_UNIT_MG 7u
#define VAGUS_UNIT_M_S2 8u
#define VAGUS_UNIT_MG_DL 9u
#define VAGUS_UNIT_MMOL_L 10u
#define VAGUS_UNIT_PER_MIN 11u
#define VAGUS_UNIT_PERCENT 12u
#define VAGUS_UNIT_CEL 13u

typedef enum {
    VAGUS_OK = 0,
    VAGUS_MORE,     /* nothing complete yet */
    VAGUS_NO_ROOM,  /* the output buffer is too small */
    VAGUS_SIZE,     /* too few bytes for a frame, or not those of a request */
    VAGUS_VERSION,  /* another version, or another message */
    VAGUS_CRC,
    VAGUS_FLAGS,    /* a bit this version does not know */
    VAGUS_FORMAT,
    VAGUS_CHANNELS,
    VAGUS_UNIT,
    VAGUS_RATE,
    VAGUS_SCALE,    /* not above 1e-30 and below 1e30 */
    VAGUS_COUNT,    /* out of range, or not the samples that are there */
    VAGUS_RESERVED, /* bytes that are to be 0 */
    VAGUS_COBS,     /* not COBS */
    VAGUS_OVERRUN   /* no delimiter where the buffer ended */
} vagus_status;

typedef struct {
    uint8_t stream_id;
    uint8_t flags;
    uint8_t format;
    uint8_t channels;
    uint8_t unit;
    uint16_t boot_id;
    uint64_t time_us;
    uint32_t sequence;
    uint32_t rate_mhz;
    float scale;
    uint32_t count;         /* samples per channel */
    const uint8_t *samples; /* count * channels * width bytes, as on the wire */
} vagus_frame;

typedef struct {
    uint8_t stream_id;
    uint16_t boot_id;
    uint32_t first;
    uint16_t count;
} vagus_resend;

typedef struct {
    uint8_t *buffer;
    size_t room;
    size_t held;
    int overrun;
} vagus_line;

/* ---- numbers as they lie on the wire, little-endian ---------------------------------------------------------- */

static inline void vagus_put_u16(uint8_t *at, uint16_t value) {
    at[0] = (uint8_t)(value & 0xFFu);
    at[1] = (uint8_t)(value >> 8);
}

static inline void vagus_put_u32(uint8_t *at, uint32_t value) {
    vagus_put_u16(at, (uint16_t)(value & 0xFFFFu));
    vagus_put_u16(at + 2, (uint16_t)(value >> 16));
}

static inline void vagus_put_u64(uint8_t *at, uint64_t value) {
    vagus_put_u32(at, (uint32_t)(value & 0xFFFFFFFFu));
    vagus_put_u32(at + 4, (uint32_t)(value >> 32));
}

static inline uint16_t vagus_get_u16(const uint8_t *at) {
    return (uint16_t)(at[0] | (uint16_t)(at[1] << 8));
}

static inline uint32_t vagus_get_u32(const uint8_t *at) {
    return (uint32_t)vagus_get_u16(at) | ((uint32_t)vagus_get_u16(at + 2) << 16);
}

static inline uint64_t vagus_get_u64(const uint8_t *at) {
    return (uint64_t)vagus_get_u32(at) | ((uint64_t)vagus_get_u32(at + 4) << 32);
}

/* One sample each: write them one after the other into a frame's samples. */

static inline void vagus_put_int16(uint8_t *at, int16_t value) {
    vagus_put_u16(at, (uint16_t)value);
}

static inline void vagus_put_int24(uint8_t *at, int32_t value) {
    uint32_t bits = (uint32_t)value;
    vagus_put_u16(at, (uint16_t)(bits & 0xFFFFu));
    at[2] = (uint8_t)((bits >> 16) & 0xFFu);
}

static inline void vagus_put_float32(uint8_t *at, float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    vagus_put_u32(at, bits);
}

static inline int16_t vagus_get_int16(const uint8_t *at) {
    uint16_t bits = vagus_get_u16(at);
    int16_t value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline int32_t vagus_get_int24(const uint8_t *at) {
    int32_t value = (int32_t)(vagus_get_u16(at) | ((uint32_t)at[2] << 16));
    return value < 0x800000 ? value : value - 0x1000000;
}

static inline float vagus_get_float32(const uint8_t *at) {
    uint32_t bits = vagus_get_u32(at);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* ---- CRC-32/ISO-HDLC, as in zlib: "123456789" gives 0xCBF43926 ------------------------------------------------ */

static inline uint32_t vagus_crc32(const uint8_t *data, size_t size) {
    static const uint32_t nibble[16] = {
        0x00000000u, 0x1DB71064u, 0x3B6E20C8u, 0x26D930ACu, 0x76DC4190u, 0x6B6B51F4u, 0x4DB26158u, 0x5005713Cu,
        0xEDB88320u, 0xF00F9344u, 0xD6D6A3E8u, 0xCB61B38Cu, 0x9B64C2B0u, 0x86D3D2D4u, 0xA00AE278u, 0xBDBDF21Cu,
    };
    uint32_t crc = 0xFFFFFFFFu;
    size_t i;
    for (i = 0; i < size; i++) {
        crc ^= data[i];
        crc = (crc >> 4) ^ nibble[crc & 0xFu];
        crc = (crc >> 4) ^ nibble[crc & 0xFu];
    }
    return ~crc;
}

/* ---- frames --------------------------------------------------------------------------------------------------- */

/* Bytes of one sample of one channel; 0 for a format there is not. */
static inline uint8_t vagus_width(uint8_t format) {
    return format == VAGUS_INT16 ? 2 : format == VAGUS_INT24 ? 3 : format == VAGUS_FLOAT32 ? 4 : 0;
}

/* Bytes of the samples that a frame declares. */
static inline uint64_t vagus_samples_size(const vagus_frame *frame) {
    return (uint64_t)frame->count * frame->channels * vagus_width(frame->format);
}

/* Whether the fields may be sent, but for the format and the unit. */
static inline vagus_status vagus_frame_check(const vagus_frame *frame) {
    uint32_t scale;
    memcpy(&scale, &frame->scale, sizeof scale);
    if (frame->flags & ~VAGUS_FLAG_UTC) {
        return VAGUS_FLAGS;
    }
    if (frame->channels < 1 || frame->channels > VAGUS_MAX_CHANNELS) {
        return VAGUS_CHANNELS;
    }
    if (frame->rate_mhz > VAGUS_MAX_RATE_MHZ) {
        return VAGUS_RATE;
    }
    /* Positive floats are in the order of their bits: these are the first above 1e-30 and the last below 1e30. */
    if (scale < 0x0DA24260u || scale > 0x7149F2C9u) {
        return VAGUS_SCALE;
    }
    if (frame->count < 1 || frame->count > VAGUS_MAX_COUNT) {
        return VAGUS_COUNT;
    }
    return VAGUS_OK;
}

/* Write the frame to `out`, which has `room` bytes; `*size` is how many were written.
 * The samples may lie at out + VAGUS_FRAME_HEADER already. */
static inline vagus_status vagus_frame_encode(const vagus_frame *frame, uint8_t *out, size_t room, size_t *size) {
    vagus_status status = vagus_frame_check(frame);
    uint64_t samples = vagus_samples_size(frame);
    size_t end;
    *size = 0;
    if (vagus_width(frame->format) == 0) {
        return VAGUS_FORMAT;
    }
    if (frame->unit > VAGUS_UNIT_CEL) {
        return VAGUS_UNIT;
    }
    if (status != VAGUS_OK) {
        return status;
    }
    if (room < VAGUS_FRAME_OVERHEAD || samples > room - VAGUS_FRAME_OVERHEAD) {
        return VAGUS_NO_ROOM;
    }
    end = VAGUS_FRAME_HEADER + (size_t)samples;
    memmove(out + VAGUS_FRAME_HEADER, frame->samples, (size_t)samples);
    out[0] = VAGUS_FRAME_VERSION;
    out[1] = frame->stream_id;
    out[2] = frame->flags;
    out[3] = frame->format;
    out[4] = frame->channels;
    out[5] = frame->unit;
    vagus_put_u16(out + 6, frame->boot_id);
    vagus_put_u64(out + 8, frame->time_us);
    vagus_put_u32(out + 16, frame->sequence);
    vagus_put_u32(out + 20, frame->rate_mhz);
    vagus_put_float32(out + 24, frame->scale);
    vagus_put_u32(out + 28, frame->count);
    vagus_put_u32(out + end, vagus_crc32(out, end));
    *size = end + 4;
    return VAGUS_OK;
}

/* Read the frame that `data`, all of it, is. Its samples stay where they are, in `data`. */
static inline vagus_status vagus_frame_decode(const uint8_t *data, size_t size, vagus_frame *frame) {
    size_t end = size - 4;
    if (size < VAGUS_FRAME_OVERHEAD) {
        return VAGUS_SIZE;
    }
    if (data[0] != VAGUS_FRAME_VERSION) {
        return VAGUS_VERSION;
    }
    if (vagus_get_u32(data + end) != vagus_crc32(data, end)) {
        return VAGUS_CRC;
    }
    frame->stream_id = data[1];
    frame->flags = data[2];
    frame->format = data[3];
    frame->channels = data[4];
    frame->unit = data[5];
    frame->boot_id = vagus_get_u16(data + 6);
    frame->time_us = vagus_get_u64(data + 8);
    frame->sequence = vagus_get_u32(data + 16);
    frame->rate_mhz = vagus_get_u32(data + 20);
    frame->scale = vagus_get_float32(data + 24);
    frame->count = vagus_get_u32(data + 28);
    frame->samples = data + VAGUS_FRAME_HEADER;
    if (vagus_width(frame->format) == 0) {
        return VAGUS_FORMAT;
    }
    if (frame->unit > VAGUS_UNIT_CEL) {
        return VAGUS_UNIT;
    }
    if (vagus_samples_size(frame) != end - VAGUS_FRAME_HEADER) {
        return VAGUS_COUNT;
    }
    return vagus_frame_check(frame);
}

/* ---- resend requests ------------------------------------------------------------------------------------------ */

static inline vagus_status vagus_resend_check(const vagus_resend *request) {
    if (request->count < 1 || request->count > VAGUS_RESEND_MAX) {
        return VAGUS_COUNT;
    }
    return request->count - 1u > 0xFFFFFFFFu - request->first ? VAGUS_COUNT : VAGUS_OK;
}

/* Write a request to `out`, which has VAGUS_RESEND_SIZE bytes. */
static inline vagus_status vagus_resend_encode(const vagus_resend *request, uint8_t *out) {
    vagus_status status = vagus_resend_check(request);
    if (status != VAGUS_OK) {
        return status;
    }
    out[0] = VAGUS_RESEND_MESSAGE;
    out[1] = request->stream_id;
    vagus_put_u16(out + 2, request->boot_id);
    vagus_put_u32(out + 4, request->first);
    vagus_put_u16(out + 8, request->count);
    vagus_put_u16(out + 10, 0);
    vagus_put_u32(out + 12, vagus_crc32(out, 12));
    return VAGUS_OK;
}

/* Read the request that `data`, all of it, is. */
static inline vagus_status vagus_resend_decode(const uint8_t *data, size_t size, vagus_resend *request) {
    if (size != VAGUS_RESEND_SIZE) {
        return VAGUS_SIZE;
    }
    if (data[0] != VAGUS_RESEND_MESSAGE) {
        return VAGUS_VERSION;
    }
    if (vagus_get_u32(data + 12) != vagus_crc32(data, 12)) {
        return VAGUS_CRC;
    }
    if (vagus_get_u16(data + 10) != 0) {
        return VAGUS_RESERVED;
    }
    request->stream_id = data[1];
    request->boot_id = vagus_get_u16(data + 2);
    request->first = vagus_get_u32(data + 4);
    request->count = vagus_get_u16(data + 8);
    return vagus_resend_check(request);
}

/* ---- serial lines: COBS, each frame or request ended by a zero byte -------------------------------------------- */

/* Bytes that are always enough for the line of `size` bytes, delimiter included. */
static inline size_t vagus_line_room(size_t size) {
    return size + size / 254 + 2;
}

/* Write `in` as a line; `out` has `room` bytes, at least vagus_line_room(size), and is another buffer than `in`. */
static inline vagus_status vagus_line_encode(const uint8_t *in, size_t size, uint8_t *out, size_t room, size_t *written) {
    size_t code_at = 0, to = 1, from;
    uint8_t code = 1;
    *written = 0;
    if (room < vagus_line_room(size)) {
        return VAGUS_NO_ROOM;
    }
    for (from = 0; from < size; from++) {
        if (in[from] != 0) {
            out[to++] = in[from];
            code++;
        }
        if (in[from] == 0 || (code == 0xFF && from + 1 < size)) {
            out[code_at] = code;
            code_at = to++;
            code = 1;
        }
    }
    out[code_at] = code;
    out[to++] = 0;
    *written = to;
    return VAGUS_OK;
}

/* Undo COBS; `in` is without its delimiter, and `out`, of at least `size` bytes, may be `in` itself. */
static inline vagus_status vagus_cobs_decode(const uint8_t *in, size_t size, uint8_t *out, size_t *written) {
    size_t from = 0, to = 0;
    *written = 0;
    while (from < size) {
        uint8_t code = in[from++], i;
        if (code == 0 || (size_t)(code - 1) > size - from) {
            return VAGUS_COBS;
        }
        for (i = 1; i < code; i++) {
            if (in[from] == 0) {
                return VAGUS_COBS;
            }
            out[to++] = in[from++];
        }
        if (code < 0xFF && from < size) {
            out[to++] = 0;
        }
    }
    *written = to;
    return VAGUS_OK;
}

/* Read lines into `buffer`: room for VAGUS_RESEND_SIZE + 2 bytes takes any request, VAGUS_MAX_LINE any frame. */
static inline void vagus_line_begin(vagus_line *line, uint8_t *buffer, size_t room) {
    line->buffer = buffer;
    line->room = room;
    line->held = 0;
    line->overrun = 0;
}

/* Take the next byte of a line. VAGUS_MORE: go on. VAGUS_OK: line->buffer holds `*size` bytes, a frame or a request,
 * until the next call. VAGUS_COBS or VAGUS_OVERRUN: a damaged line has ended. */
static inline vagus_status vagus_line_push(vagus_line *line, uint8_t byte, size_t *size) {
    vagus_status status = VAGUS_MORE;
    *size = 0;
    if (byte == 0) {
        if (line->overrun) {
            status = VAGUS_OVERRUN;
        } else if (line->held > 0) {
            status = vagus_cobs_decode(line->buffer, line->held, line->buffer, size);
        }
        line->held = 0;
        line->overrun = 0;
    } else if (line->held == line->room) {
        line->overrun = 1;
    } else {
        line->buffer[line->held++] = byte;
    }
    return status;
}

#endif /* VAGUS_FRAME_H */
