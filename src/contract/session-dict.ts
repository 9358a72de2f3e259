/**
 * Who owns a client id now: at most one live connection per (tenant, client id) in the whole cluster.
 *
 * DICT_CLAIM    request: tenant text, client id text, u32 connection (unique within the shard)
 *               reply:   u8 STATUS; sent once the former owner, if any, has let the session go
 * DICT_RELEASE  request (no reply): tenant text, client id text, u32 connection; ignored if another has claimed since
 * DICT_KICK     push to the former owner: tenant text, client id text, u32 connection
 *               reply:   u8 STATUS; once its connection is closed and its inbox detached
 */
export {};
