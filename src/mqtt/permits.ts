import type { Authorizer, Identity } from '../plugin/plugin.js';
import type { Topic } from './tenant.js';

/** Topics whose permission a session remembers. */
const PERMITS_MAX = 1024;
/** QoS 0 to 2, with and without RETAIN: an authorizer may tell them apart. */
const VARIANTS = 6;

/** Where one client may publish, as the authorizer said; asked again whenever its `version` changes. */
export class Permits {
  private version = -1;
  /** By topic: a bit for each variant that is known, and above them one for each that is allowed. */
  private known = new Map<Topic, number>();
  private lastTopic: Topic | null = null;
  private lastVariant = 0;

  mayPublish(
    authorizer: Authorizer,
    identity: Identity,
    topic: Topic,
    qos: number,
    retain: boolean,
  ): boolean {
    if (this.version !== authorizer.version) this.forget(authorizer.version);
    const variant = 1 << (qos * 2 + (retain ? 1 : 0));
    if (this.lastTopic === topic && this.lastVariant === variant) return true;
    let bits = this.known.get(topic) ?? 0;
    if ((bits & variant) === 0) {
      bits |= variant;
      if (authorizer.mayPublish(identity, topic.name, qos, retain)) bits |= variant << VARIANTS;
      if (this.known.size >= PERMITS_MAX) this.known = new Map();
      this.known.set(topic, bits);
    }
    if ((bits & (variant << VARIANTS)) === 0) return false;
    this.lastTopic = topic;
    this.lastVariant = variant;
    return true;
  }

  /** Nothing is remembered: the rules have changed, or the identity has. */
  forget(version = -1): void {
    this.version = version;
    this.known = new Map();
    this.lastTopic = null;
  }
}
