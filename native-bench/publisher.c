#include "publisher.h"

#include "base.h"

enum { ID_FREE, ID_AWAITS_ACK, ID_AWAITS_COMP };

void publisher_start(struct publisher *publisher, struct client *client, uint32_t number, const char *topic,
                     uint32_t fan) {
  const struct options *options = client->loop->options;
  *publisher = (struct publisher){.client = client, .number = number, .fan = fan};
  publisher->packet = mqtt_publish_template(options->version, topic, options->qos, false, options->payload);
  if (!options->qos) return;
  publisher->id_count = 2 * options->window < 64 ? 64 : 2 * options->window;
  publisher->id_states = allocate(publisher->id_count, sizeof *publisher->id_states);
  publisher->id_sent_ns = allocate(publisher->id_count, sizeof *publisher->id_sent_ns);
}

static bool has_room(const struct publisher *publisher, const struct options *options) {
  if (publisher->id_count) {
    if (publisher->in_flight >= options->window || publisher->id_states[publisher->next_id] != ID_FREE) return false;
  }
  if (!(options->window_by & WINDOW_BY_DELIVERIES)) return true;
  uint64_t outstanding = publisher_outstanding(publisher);
  /* What was written off may still arrive, and then counts below zero. */
  return (int64_t)outstanding <= (int64_t)(options->window - 1) * publisher->fan;
}

bool publisher_send(struct publisher *publisher, uint64_t sent_ns) {
  struct client *client = publisher->client;
  if (client->state != CLIENT_READY || !has_room(publisher, client->loop->options)) return false;
  struct mqtt_template *packet = &publisher->packet;
  if (publisher->id_count) {
    uint32_t id = publisher->next_id;
    publisher->next_id = id + 1 == publisher->id_count ? 0 : id + 1;
    publisher->id_states[id] = ID_AWAITS_ACK;
    publisher->id_sent_ns[id] = sent_ns;
    publisher->in_flight++;
    put16(packet->bytes + packet->id_offset, id + 1);
  }
  struct stamp stamp = {client->loop->options->run_id, publisher->number, publisher->sent, sent_ns};
  memcpy(packet->bytes + packet->payload_offset, &stamp, sizeof stamp);
  client_write(client, packet->bytes, packet->length);
  publisher->sent++;
  return true;
}

void publisher_fill(struct publisher *publisher, uint64_t now_ns) {
  while (publisher_send(publisher, now_ns)) continue;
}

bool publisher_acked(struct publisher *publisher, enum mqtt_type type, uint16_t id, uint8_t reason,
                     struct histogram *latency) {
  uint32_t at = id - 1u;
  if (at >= publisher->id_count) return false;
  uint8_t wanted = type == MQTT_PUBCOMP ? ID_AWAITS_COMP : ID_AWAITS_ACK;
  if (publisher->id_states[at] != wanted) return false;
  if (type == MQTT_PUBREC && reason < 0x80) {
    publisher->id_states[at] = ID_AWAITS_COMP;
    return true;
  }
  publisher->id_states[at] = ID_FREE;
  publisher->in_flight--;
  publisher->acked++;
  if (reason >= 0x80) publisher->refused++;
  if (latency) histogram_add(latency, publisher->client->loop->now_ns - publisher->id_sent_ns[at]);
  return true;
}

bool publisher_check_stall(struct publisher *publisher, uint64_t now_ns, uint64_t stall_ns) {
  uint64_t mark = publisher->delivered + publisher->acked + publisher->sent;
  if (mark != publisher->progress_mark) {
    publisher->progress_mark = mark;
    publisher->progress_ns = now_ns;
    return false;
  }
  int64_t outstanding = (int64_t)publisher_outstanding(publisher);
  if (outstanding <= 0 || now_ns - publisher->progress_ns < stall_ns) return false;
  publisher->written_off += (uint64_t)outstanding;
  return true;
}
