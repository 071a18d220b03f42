"""The protobuf forms of Micro v3's own packages, so that a client built for it is understood.

Data in the notation of the facts they come from, which `notation` reads: a service and its
methods, a message and its fields with their numbers, an enum and its. A line that is indented
belongs to the one above. What is not here gets its numbers from the order of its fields.
"""

from __future__ import annotations

REGISTRY = """
service Registry: GetService(GetRequest) -> GetResponse; Register(Service) -> EmptyResponse;
  Deregister(Service) -> EmptyResponse; ListServices(ListRequest) -> ListResponse;
  Watch(WatchRequest) -> stream Result
message Service: 1 name string; 2 version string; 3 metadata map<string, string>;
  4 endpoints repeated Endpoint; 5 nodes repeated Node; 6 options Options
message Node: 1 id string; 2 address string; 3 port int64; 4 metadata map<string, string>
message Endpoint: 1 name string; 2 request Value; 3 response Value; 4 metadata map<string, string>
message Value: 1 name string; 2 type string; 3 values repeated Value
message Options: 1 ttl int64; 2 domain string
message Result: 1 action string; 2 service Service; 3 timestamp int64
message EmptyResponse:
message GetRequest: 1 service string; 2 options Options
message GetResponse: 1 services repeated Service
message ListRequest: 1 options Options
message ListResponse: 1 services repeated Service
message WatchRequest: 1 service string; 2 options Options
enum EventType: 0 Create; 1 Delete; 2 Update
message Event: 1 id string; 2 type EventType; 3 timestamp int64; 4 service Service
"""

AUTH = """
service Auth: Generate(GenerateRequest) -> GenerateResponse;
  Inspect(InspectRequest) -> InspectResponse; Token(TokenRequest) -> TokenResponse
service Accounts: List(ListAccountsRequest) -> ListAccountsResponse;
  Delete(DeleteAccountRequest) -> DeleteAccountResponse;
  ChangeSecret(ChangeSecretRequest) -> ChangeSecretResponse
service Rules: Create(CreateRequest) -> CreateResponse; Delete(DeleteRequest) -> DeleteResponse;
  List(ListRequest) -> ListResponse
message ListAccountsRequest: 1 options Options
message ListAccountsResponse: 1 accounts repeated Account
message DeleteAccountRequest: 1 id string; 2 options Options
message DeleteAccountResponse:
message Token: 1 access_token string; 2 refresh_token string; 3 created int64; 4 expiry int64
message Account: 1 id string; 2 type string; 4 metadata map<string, string>;
  5 scopes repeated string; 6 issuer string; 7 secret string; 8 name string
message Resource: 1 name string; 2 type string; 3 endpoint string
message GenerateRequest: 1 id string; 3 metadata map<string, string>; 4 scopes repeated string;
  5 secret string; 6 type string; 7 provider string; 8 options Options; 9 name string
message GenerateResponse: 1 account Account
message InspectRequest: 1 token string; 2 options Options
message InspectResponse: 1 account Account
message TokenRequest: 1 id string; 2 secret string; 3 refresh_token string;
  4 token_expiry int64; 5 options Options
message TokenResponse: 1 token Token
enum Access: 0 UNKNOWN; 1 GRANTED; 2 DENIED
message Rule: 1 id string; 2 scope string; 3 resource Resource; 4 access Access; 5 priority int32
message Options: 1 namespace string
message CreateRequest: 1 rule Rule; 2 options Options
message CreateResponse:
message DeleteRequest: 1 id string; 2 options Options
message DeleteResponse:
message ListRequest: 2 options Options
message ListResponse: 1 rules repeated Rule
message ChangeSecretRequest: 1 id string; 2 old_secret string; 3 new_secret string;
  4 options Options
message ChangeSecretResponse:
"""

CONFIG = """
service Config: Get(GetRequest) -> GetResponse; Set(SetRequest) -> SetResponse;
  Delete(DeleteRequest) -> DeleteResponse; Read(ReadRequest) -> ReadResponse
message Value: 1 data string; 2 format string
message Options: 1 secret bool
message SetRequest: 1 namespace string; 2 path string; 3 value Value; 4 options Options
message SetResponse:
message DeleteRequest: 1 namespace string; 2 path string
message DeleteResponse:
message GetRequest: 1 namespace string; 2 path string; 3 options Options
message GetResponse: 1 value Value
message ReadRequest: 1 namespace string; 2 path string
message ReadResponse: 1 change Change
message Change: 1 namespace string; 2 path string; 3 changeSet ChangeSet
message ChangeSet: 1 data string; 2 checksum string; 3 format string; 4 source string;
  5 timestamp int64
"""

STORE = """
service Store: Read(ReadRequest) -> ReadResponse; Write(WriteRequest) -> WriteResponse;
  Delete(DeleteRequest) -> DeleteResponse; List(ListRequest) -> stream ListResponse;
  Databases(DatabasesRequest) -> DatabasesResponse; Tables(TablesRequest) -> TablesResponse
service BlobStore: Read(BlobReadRequest) -> stream BlobReadResponse;
  Write(stream BlobWriteRequest) -> BlobWriteResponse;
  Delete(BlobDeleteRequest) -> BlobDeleteResponse; List(BlobListRequest) -> BlobListResponse
message Field: 1 type string; 2 value string
message Record: 1 key string; 2 value bytes; 3 expiry int64; 4 metadata map<string, Field>
message ReadOptions: 1 database string; 2 table string; 3 prefix bool; 4 suffix bool;
  5 limit uint64; 6 offset uint64; 7 order string
message ReadRequest: 1 key string; 2 options ReadOptions
message ReadResponse: 1 records repeated Record
message WriteOptions: 1 database string; 2 table string
message WriteRequest: 1 record Record; 2 options WriteOptions
message WriteResponse:
message DeleteOptions: 1 database string; 2 table string
message DeleteRequest: 1 key string; 2 options DeleteOptions
message DeleteResponse:
message ListOptions: 1 database string; 2 table string; 3 prefix string; 4 suffix string;
  5 limit uint64; 6 offset uint64; 7 order string
message ListRequest: 1 options ListOptions
message ListResponse: 2 keys repeated string
message DatabasesRequest:
message DatabasesResponse: 1 databases repeated string
message TablesRequest: 1 database string
message TablesResponse: 1 tables repeated string
message BlobOptions: 1 namespace string; 2 public bool; 3 contentType string
message BlobReadRequest: 1 key string; 2 options BlobOptions
message BlobReadResponse: 1 blob bytes
message BlobWriteRequest: 1 key string; 2 options BlobOptions; 3 blob bytes
message BlobWriteResponse:
message BlobDeleteRequest: 1 key string; 2 options BlobOptions
message BlobDeleteResponse:
message BlobListRequest: 1 options BlobListOptions
message BlobListResponse: 1 keys repeated string
message BlobListOptions: 1 namespace string; 2 prefix string
"""

BROKER = """
service Broker: Publish(PublishRequest) -> Empty; Subscribe(SubscribeRequest) -> stream Message
message Empty:
message PublishRequest: 1 topic string; 2 message Message
message SubscribeRequest: 1 topic string; 2 queue string
message Message: 1 header map<string, string>; 2 body bytes
"""

EVENTS = """
service Stream: Publish(PublishRequest) -> PublishResponse; Consume(ConsumeRequest) -> stream Event
service Store: Read(ReadRequest) -> ReadResponse; Write(WriteRequest) -> WriteResponse
message PublishRequest: 1 topic string; 2 metadata map<string, string>; 3 payload bytes;
  4 timestamp int64
message PublishResponse:
message ConsumeRequest: 1 group string; 2 topic string; 3 offset int64; 4 auto_ack bool;
  5 ack_wait int64; 6 retry_limit int64
message Event: 1 id string; 2 topic string; 3 metadata map<string, string>; 4 payload bytes;
  5 timestamp int64
message ReadRequest: 1 topic string; 2 limit uint64; 3 offset uint64
message ReadResponse: 1 events repeated Event
message WriteRequest: 1 event Event; 2 ttl int64
message WriteResponse:
message AckRequest: 1 id string; 2 success bool
"""

RUNTIME = """
service Runtime: Create(CreateRequest) -> CreateResponse; Read(ReadRequest) -> ReadResponse;
  Delete(DeleteRequest) -> DeleteResponse; Update(UpdateRequest) -> UpdateResponse;
  Logs(LogsRequest) -> stream LogRecord
service Source: Upload(stream UploadRequest) -> UploadResponse
service Build: Read(Service) -> stream BuildReadResponse
message Resource: 1 namespace Namespace; 2 networkpolicy NetworkPolicy; 3 service Service;
  4 resourcequota ResourceQuota
message Namespace: 1 name string
message NetworkPolicy: 1 allowedlabels map<string, string>; 2 name string; 3 namespace string
message ResourceQuota: 1 name string; 2 namespace string; 3 requests Resources; 4 limits Resources
message Resources: 1 Memory int32; 2 CPU int32; 3 EphemeralStorage int32
message Service: 1 name string; 2 version string; 3 source string;
  4 metadata map<string, string>; 5 status int32
message CreateOptions: 1 command repeated string; 2 args repeated string; 3 env repeated string;
  4 output string; 5 type string; 6 image string; 7 namespace string;
  8 secrets map<string, string>; 9 entrypoint string; 10 volumes map<string, string>;
  11 instances int64; 12 force bool
message CreateRequest: 1 resource Resource; 2 options CreateOptions
message CreateResponse:
message ReadOptions: 1 service string; 2 version string; 3 type string; 4 namespace string
message ReadRequest: 1 options ReadOptions
message ReadResponse: 1 services repeated Service
message DeleteOptions: 1 namespace string
message DeleteRequest: 1 resource Resource; 2 options DeleteOptions
message DeleteResponse:
message UpdateOptions: 1 namespace string; 2 entrypoint string; 3 instances int64
message UpdateRequest: 1 resource Resource; 2 options UpdateOptions
message UpdateResponse:
message ListOptions: 1 namespace string
message ListRequest: 1 options ListOptions
message ListResponse: 1 services repeated Service
message LogsOptions: 1 namespace string
message LogsRequest: 1 service string; 2 stream bool; 3 count int64; 4 since int64;
  5 options LogsOptions; 6 version string
message LogRecord: 1 timestamp int64; 2 metadata map<string, string>; 3 message string
message UploadRequest: 1 service Service; 2 data bytes
message UploadResponse: 1 id string
message BuildReadResponse: 1 data bytes
"""

DEBUG = """
service Debug: Log(LogRequest) -> LogResponse; Health(HealthRequest) -> HealthResponse;
  Stats(StatsRequest) -> StatsResponse; Trace(TraceRequest) -> TraceResponse
message HealthRequest:
message HealthResponse: 1 status string
message StatsRequest:
message StatsResponse: 1 timestamp uint64; 2 started uint64; 3 uptime uint64; 4 memory uint64;
  5 threads uint64; 6 gc uint64; 7 requests uint64; 8 errors uint64
message LogRequest: 1 count int64; 2 since int64
message LogResponse: 1 records repeated Record
message Record: 1 timestamp int64; 2 metadata map<string, string>; 3 message string
message TraceRequest: 1 id string
message TraceResponse: 1 spans repeated Span
enum SpanType: 0 INBOUND; 1 OUTBOUND
message Span: 1 trace string; 2 id string; 3 parent string; 4 name string; 5 started uint64;
  6 duration uint64; 7 metadata map<string, string>; 8 type SpanType
"""

API = """
service Api: AddToBlockList(AddToBlockListRequest) -> AddToBlockListResponse;
  RemoveFromBlockList(RemoveFromBlockListRequest) -> RemoveFromBlockListResponse;
  ReadBlockList(ReadBlockListRequest) -> ReadBlockListResponse
message AddToBlockListRequest: 1 id string; 2 namespace string
message AddToBlockListResponse:
message RemoveFromBlockListRequest: 1 id string; 2 namespace string
message RemoveFromBlockListResponse:
message ReadBlockListRequest:
message ReadBlockListResponse: 1 ids repeated string
"""

GREET = """
service ControlPlane: CommitRouteHandler(CommitRouteHandlerRequest) -> CommitRouteHandlerResponse;
  GetCurrentConsumption(GetCurrentConsumptionRequest) -> GetCurrentConsumptionResponse
enum RouteHandlerLanguage: 0 ROUTE_HANDLER_Invalid; 1 Javascript
message CommitRouteHandlerRequest: 1 OrganizationId string; 2 Committer string;
  3 CommitMessage string; 4 Route string; 5 HandlerScriptLanguage RouteHandlerLanguage;
  6 HandlerScriptBody string
message CommitRouteHandlerResponse: 1 Success bool; 2 Error string
message GetCurrentConsumptionRequest: 1 OrganizationId string
message GetCurrentConsumptionResponse: 1 Details ConsumptionDetail; 2 Error Error
message ConsumptionDetail: 1 TotalRequestCount uint64; 2 TotalResponseBytes uint64;
  3 TotalExecutionTimeMicroseconds uint64; 4 TotalConsumptionByteMilliseconds uint64
message Error: 1 Message string
"""
"""CosmoCompute's control plane, whose package kept the name of a template."""

PACKAGES = {
    "api": API,
    "auth": AUTH,
    "broker": BROKER,
    "config": CONFIG,
    "debug": DEBUG,
    "events": EVENTS,
    "registry": REGISTRY,
    "runtime": RUNTIME,
    "store": STORE,
}
"""The notation of each core service, by its name."""

ERRORS = "message Error: 1 id string; 2 code int32; 3 detail string; 4 status string"
STATUS = "message Status: 1 code int32; 2 message string; 3 details repeated google.protobuf.Any"
"""``google.rpc.Status``, which the trailer ``grpc-status-details-bin`` carries."""
