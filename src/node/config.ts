import type { z } from 'zod';
import { configSchema } from './config-schema.js';

/** The effective configuration: complete, valid and structured-cloneable. */
export type Config = z.infer<typeof configSchema>;

/** Everything at its default; `auto` is not yet replaced. */
export function defaultConfig(): Config {
  return configSchema.parse({});
}
