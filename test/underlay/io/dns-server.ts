import { createSocket, type Socket } from 'node:dgram';
import { Resolver } from 'node:dns/promises';

export interface ServiceRecord {
  readonly target: string;
  readonly port: number;
}

const TYPE_SRV = 33;
const RESPONSE_OK = 0x8180;
const RESPONSE_NO_NAME = 0x8183;

/** A name server on the loopback that knows SRV records only (RFC 1035, RFC 2782). */
export class DnsServer {
  readonly services = new Map<string, readonly ServiceRecord[]>();
  readonly resolver = new Resolver({ timeout: 500, tries: 1 });
  queries = 0;
  private readonly socket: Socket = createSocket('udp4');

  async start(): Promise<this> {
    this.socket.on('message', (query, { address, port }) => {
      this.queries++;
      this.socket.send(this.answer(query), port, address);
    });
    await new Promise<void>(resolve => this.socket.bind(0, '127.0.0.1', resolve));
    this.resolver.setServers([`127.0.0.1:${this.socket.address().port}`]);
    return this;
  }

  close(): void {
    this.socket.close();
  }

  private answer(query: Buffer): Buffer {
    let end = 12;
    const labels: string[] = [];
    while (query[end] !== 0) {
      labels.push(query.toString('latin1', end + 1, end + 1 + query[end]!));
      end += 1 + query[end]!;
    }
    const records = this.services.get(labels.join('.')) ?? [];
    const header = Buffer.from(query.subarray(0, 12));
    header.writeUInt16BE(records.length === 0 ? RESPONSE_NO_NAME : RESPONSE_OK, 2);
    header.writeUInt16BE(records.length, 6);
    header.writeUInt32BE(0, 8);
    return Buffer.concat([header, query.subarray(12, end + 5), ...records.map(serviceBytes)]);
  }
}

function serviceBytes({ target, port }: ServiceRecord): Buffer {
  const labels = target.split('.').map(label => Buffer.concat([Buffer.of(label.length), Buffer.from(label)]));
  const name = Buffer.concat([...labels, Buffer.of(0)]);
  const head = Buffer.alloc(18);
  head.writeUInt16BE(0xc00c, 0);
  head.writeUInt16BE(TYPE_SRV, 2);
  head.writeUInt16BE(1, 4);
  head.writeUInt32BE(60, 6);
  head.writeUInt16BE(6 + name.length, 10);
  head.writeUInt16BE(port, 16);
  return Buffer.concat([head, name]);
}
