import { authority } from '../../underlay/io/certificates.js';
import { transportContract } from '../transport-contract.js';
import { GrpcWorld } from './grpc-world.js';

const one = authority('one');
const host = one.issue('host');

transportContract('gRPC in the clear', () => new GrpcWorld());
transportContract('gRPC over TLS', () => new GrpcWorld(host));
transportContract('gRPC over mutual TLS', () => new GrpcWorld({ ...host, ca: one.ca }));
