"""The messages of the API. Made by clients/generate: do not edit.

They live in a pool of their own. So they clash with no messages of other libraries in the process, and work with every
release of protobuf that is accepted, whichever made this file.
"""

from google.protobuf import descriptor_pool, duration_pb2, message_factory

_POOL = descriptor_pool.DescriptorPool()
_POOL.AddSerializedFile(duration_pb2.DESCRIPTOR.serialized_pb)
_POOL.AddSerializedFile(
    b'\n\tapi.proto\x12\x0bquorate.api\x1a\x1egoogle/protobuf/duration.proto"V\n\x05Entr'
    b'y\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x12\x16\n\x05value\x18\x02 \x01(\tH\x00R\x05value\x12\x18\n\x06binary\x18\x03 \x01(\x0cH\x00R\x06b'
    b'inaryB\t\n\x07content"L\n\nClockValue\x12\x14\n\x05epoch\x18\x01 \x01(\x04R\x05epoch\x12\x14\n\x05clock\x18\x02 '
    b'\x01(\x04R\x05clock\x12\x12\n\x04node\x18\x03 \x01(\tR\x04node"\x85\x01\n\x0cClockedEntry\x12(\n\x05entry\x18\x01 \x01(\x0b2\x12'
    b'.quorate.api.EntryR\x05entry\x12-\n\x05clock\x18\x02 \x01(\x0b2\x17.quorate.api.ClockValu'
    b'eR\x05clock\x12\x1c\n\ttombstone\x18\x03 \x01(\x08R\ttombstone"\x9d\x01\n\nGetRequest\x12\x10\n\x03key\x18\x01 \x01'
    b'(\tR\x03key\x12\x14\n\x05table\x18\x02 \x01(\tR\x05table\x12:\n\x0bconsistency\x18\x03 \x01(\x0e2\x18.quorate.api'
    b'.ConsistencyR\x0bconsistency\x12\x1e\n\x08at_least\x18\x04 \x01(\tH\x00R\x07atLeast\x88\x01\x01B\x0b\n\t_at'
    b'_least"\xad\x01\n\x0bGetResponse\x12(\n\x05entry\x18\x01 \x01(\x0b2\x12.quorate.api.EntryR\x05entry'
    b'\x12-\n\x05clock\x18\x02 \x01(\x0b2\x17.quorate.api.ClockValueR\x05clock\x12\x18\n\x07version\x18\x03 \x01(\t'
    b'R\x07version\x12+\n\x03ttl\x18\x04 \x01(\x0b2\x19.google.protobuf.DurationR\x03ttl";\n\x0fBatchG'
    b'etRequest\x12\x12\n\x04keys\x18\x01 \x03(\tR\x04keys\x12\x14\n\x05table\x18\x02 \x01(\tR\x05table"I\n\x10BatchGetR'
    b'esponse\x125\n\x07results\x18\x01 \x03(\x0b2\x1b.quorate.api.BatchGetResultR\x07results"\xf4'
    b'\x01\n\x0eBatchGetResult\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x12(\n\x05entry\x18\x02 \x01(\x0b2\x12.quorate.api'
    b'.EntryR\x05entry\x12-\n\x05clock\x18\x03 \x01(\x0b2\x17.quorate.api.ClockValueR\x05clock\x120\n\x05'
    b'error\x18\x04 \x01(\x0b2\x1a.quorate.api.BatchGetErrorR\x05error\x12\x18\n\x07version\x18\x05 \x01(\tR'
    b'\x07version\x12+\n\x03ttl\x18\x06 \x01(\x0b2\x19.google.protobuf.DurationR\x03ttl"U\n\rBatchGe'
    b'tError\x12\x12\n\x04code\x18\x01 \x01(\x05R\x04code\x12\x16\n\x06reason\x18\x02 \x01(\tR\x06reason\x12\x18\n\x07message\x18\x03 '
    b'\x01(\tR\x07message"\x8a\x01\n\x0bListRequest\x12\x14\n\x05table\x18\x01 \x01(\tR\x05table\x12\x16\n\x06prefix\x18\x02 \x01'
    b'(\tR\x06prefix\x12\x1f\n\x0bstart_after\x18\x03 \x01(\tR\nstartAfter\x12\x14\n\x05limit\x18\x04 \x01(\x04R\x05limi'
    b't\x12\x16\n\x06values\x18\x05 \x01(\x08R\x06values"d\n\x0cListResponse\x122\n\x07entries\x18\x01 \x03(\x0b2\x18.quo'
    b'rate.api.ListedEntryR\x07entries\x12\x17\n\x04next\x18\x02 \x01(\tH\x00R\x04next\x88\x01\x01B\x07\n\x05_next"'
    b'\x90\x01\n\x0bListedEntry\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x12\x18\n\x07version\x18\x02 \x01(\tR\x07version\x12(\n\x05e'
    b'ntry\x18\x03 \x01(\x0b2\x12.quorate.api.EntryR\x05entry\x12+\n\x03ttl\x18\x04 \x01(\x0b2\x19.google.prot'
    b'obuf.DurationR\x03ttl"\xe6\x01\n\nSetRequest\x12(\n\x05entry\x18\x01 \x01(\x0b2\x12.quorate.api.E'
    b'ntryR\x05entry\x12\x14\n\x05table\x18\x02 \x01(\tR\x05table\x124\n\tcondition\x18\x03 \x01(\x0b2\x16.quorate.a'
    b'pi.ConditionR\tcondition\x12+\n\x03ttl\x18\x04 \x01(\x0b2\x19.google.protobuf.DurationR'
    b'\x03ttl\x12\x1d\n\nrequest_id\x18\x05 \x01(\x0cR\trequestId\x12\x16\n\x06resend\x18\x06 \x01(\x08R\x06resend"y\n\tC'
    b'ondition\x12\x1f\n\nif_version\x18\x01 \x01(\tH\x00R\tifVersion\x12\x1d\n\tif_absent\x18\x02 \x01(\x08H\x00R\x08'
    b'ifAbsent\x12\x1f\n\nif_present\x18\x03 \x01(\x08H\x00R\tifPresentB\x0b\n\tcondition"V\n\x0bSetRes'
    b'ponse\x12-\n\x05clock\x18\x01 \x01(\x0b2\x17.quorate.api.ClockValueR\x05clock\x12\x18\n\x07version\x18'
    b'\x02 \x01(\tR\x07version"\xa4\x01\n\rDeleteRequest\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x12\x14\n\x05table\x18\x02 \x01('
    b'\tR\x05table\x124\n\tcondition\x18\x03 \x01(\x0b2\x16.quorate.api.ConditionR\tcondition\x12\x1d'
    b'\n\nrequest_id\x18\x04 \x01(\x0cR\trequestId\x12\x16\n\x06resend\x18\x05 \x01(\x08R\x06resend"Y\n\x0eDeleteR'
    b'esponse\x12-\n\x05clock\x18\x01 \x01(\x0b2\x17.quorate.api.ClockValueR\x05clock\x12\x18\n\x07versio'
    b'n\x18\x02 \x01(\tR\x07version"a\n\x11BatchWriteRequest\x126\n\x07entries\x18\x01 \x03(\x0b2\x1c.quorate'
    b'.api.BatchWriteEntryR\x07entries\x12\x14\n\x05table\x18\x02 \x01(\tR\x05table"}\n\x0fBatchWrit'
    b'eEntry\x12+\n\x03set\x18\x01 \x01(\x0b2\x17.quorate.api.SetRequestH\x00R\x03set\x124\n\x06delete\x18\x02 '
    b'\x01(\x0b2\x1a.quorate.api.DeleteRequestH\x00R\x06deleteB\x07\n\x05write"M\n\x12BatchWrite'
    b'Response\x127\n\x07results\x18\x01 \x03(\x0b2\x1d.quorate.api.BatchWriteResultR\x07result'
    b's"\xa1\x01\n\x10BatchWriteResult\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x12-\n\x05clock\x18\x02 \x01(\x0b2\x17.quorat'
    b'e.api.ClockValueR\x05clock\x12\x18\n\x07version\x18\x03 \x01(\tR\x07version\x122\n\x05error\x18\x04 \x01(\x0b'
    b'2\x1c.quorate.api.BatchWriteErrorR\x05error"\x8e\x01\n\x0fBatchWriteError\x12\x12\n\x04cod'
    b'e\x18\x01 \x01(\x05R\x04code\x12\x16\n\x06reason\x18\x02 \x01(\tR\x06reason\x12\x18\n\x07message\x18\x03 \x01(\tR\x07message\x12'
    b'\x18\n\x07version\x18\x04 \x01(\tR\x07version\x12\x1b\n\thas_value\x18\x05 \x01(\x08R\x08hasValue"\xd3\x01\n\nAddRe'
    b'quest\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x12\x14\n\x05table\x18\x02 \x01(\tR\x05table\x12\x14\n\x05delta\x18\x03 \x01(\x12R\x05de'
    b'lta\x12\x19\n\x05since\x18\x04 \x01(\tH\x00R\x05since\x88\x01\x01\x12\x1d\n\nrequest_id\x18\x05 \x01(\x0cR\trequestId\x12\x16\n'
    b'\x06resend\x18\x06 \x01(\x08R\x06resend\x12+\n\x03ttl\x18\x07 \x01(\x0b2\x19.google.protobuf.DurationR\x03t'
    b'tlB\x08\n\x06_since"=\n\x0bAddResponse\x12\x14\n\x05value\x18\x01 \x01(\x12R\x05value\x12\x18\n\x07version\x18\x02 \x01'
    b'(\tR\x07version"\xa7\x01\n\x0cWatchRequest\x12\x12\n\x03key\x18\x01 \x01(\tH\x00R\x03key\x12\x18\n\x06prefix\x18\x03 \x01(\t'
    b'H\x00R\x06prefix\x12\x14\n\x05table\x18\x02 \x01(\tR\x05table\x12\x16\n\x06cursor\x18\x04 \x01(\x0cR\x06cursor\x12\x16\n\x06valu'
    b'es\x18\x05 \x01(\x08R\x06values\x12\x1b\n\twith_list\x18\x06 \x01(\x08R\x08withListB\x06\n\x04keys"\xb1\x02\n\rWatchR'
    b'esponse\x12\x16\n\x06cursor\x18\x01 \x01(\x0cR\x06cursor\x12/\n\x05ready\x18\x02 \x01(\x0b2\x17.quorate.api.Wat'
    b'chReadyH\x00R\x05ready\x12)\n\x03put\x18\x03 \x01(\x0b2\x15.quorate.api.WatchPutH\x00R\x03put\x125\n\x07d'
    b'eleted\x18\x04 \x01(\x0b2\x19.quorate.api.WatchDeletedH\x00R\x07deleted\x12/\n\x05reset\x18\x05 \x01('
    b'\x0b2\x17.quorate.api.WatchResetH\x00R\x05reset\x12;\n\theartbeat\x18\x06 \x01(\x0b2\x1b.quorate'
    b'.api.WatchHeartbeatH\x00R\theartbeatB\x07\n\x05event"\x0c\n\nWatchReady"\x8d\x01\n\x08Watc'
    b'hPut\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x12\x18\n\x07version\x18\x02 \x01(\tR\x07version\x12(\n\x05entry\x18\x03 \x01(\x0b2'
    b'\x12.quorate.api.EntryR\x05entry\x12+\n\x03ttl\x18\x04 \x01(\x0b2\x19.google.protobuf.Durati'
    b'onR\x03ttl":\n\x0cWatchDeleted\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x12\x18\n\x07version\x18\x02 \x01(\tR\x07vers'
    b'ion"\x0c\n\nWatchReset"\x10\n\x0eWatchHeartbeat"\x92\x01\n\x05Table\x12\x12\n\x04name\x18\x01 \x01(\tR\x04nam'
    b'e\x12\x0e\n\x02id\x18\x02 \x01(\rR\x02id\x12-\n\x05state\x18\x03 \x01(\x0e2\x17.quorate.api.TableStateR\x05state'
    b'\x126\n\x08settings\x18\x04 \x01(\x0b2\x1a.quorate.api.TableSettingsR\x08settings"\x94\x01\n\rTab'
    b'leSettings\x12:\n\x0bdefault_ttl\x18\x01 \x01(\x0b2\x19.google.protobuf.DurationR\ndefa'
    b'ultTtl\x12&\n\x0fvalue_bytes_max\x18\x02 \x01(\x04R\rvalueBytesMax\x12\x1f\n\x0bquota_bytes\x18\x03 '
    b'\x01(\x04R\nquotaBytes"\x7f\n\x12TableCreateRequest\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name\x126\n\x08set'
    b'tings\x18\x02 \x01(\x0b2\x1a.quorate.api.TableSettingsR\x08settings\x12\x1d\n\nif_missing\x18'
    b'\x03 \x01(\x08R\tifMissing"Y\n\x13TableCreateResponse\x12(\n\x05table\x18\x01 \x01(\x0b2\x12.quorate'
    b'.api.TableR\x05table\x12\x18\n\x07created\x18\x02 \x01(\x08R\x07created"%\n\x0fTableGetRequest\x12\x12'
    b'\n\x04name\x18\x01 \x01(\tR\x04name"<\n\x10TableGetResponse\x12(\n\x05table\x18\x01 \x01(\x0b2\x12.quorate.'
    b'api.TableR\x05table"I\n\x10TableListRequest\x12\x1f\n\x0bstart_after\x18\x01 \x01(\tR\nstart'
    b'After\x12\x14\n\x05limit\x18\x02 \x01(\x04R\x05limit"a\n\x11TableListResponse\x12*\n\x06tables\x18\x01 \x03(\x0b'
    b'2\x12.quorate.api.TableR\x06tables\x12\x17\n\x04next\x18\x02 \x01(\tH\x00R\x04next\x88\x01\x01B\x07\n\x05_next"&'
    b'\n\x10TableDropRequest\x12\x12\n\x04name\x18\x01 \x01(\tR\x04name"\x13\n\x11TableDropResponse"\x7f\n\x05T'
    b'oken\x12\x0e\n\x02id\x18\x01 \x01(\tR\x02id\x12\x12\n\x04name\x18\x02 \x01(\tR\x04name\x12 \n\x0bcertificate\x18\x03 \x01(\tR\x0bc'
    b'ertificate\x12\x16\n\x06rights\x18\x04 \x03(\tR\x06rights\x12\x18\n\x07created\x18\x05 \x01(\x03R\x07created"c\n\x12'
    b'TokenCreateRequest\x12(\n\x05token\x18\x01 \x01(\x0b2\x12.quorate.api.TokenR\x05token\x12#\n\r'
    b'secret_sha256\x18\x02 \x01(\x0cR\x0csecretSha256"?\n\x13TokenCreateResponse\x12(\n\x05toke'
    b'n\x18\x01 \x01(\x0b2\x12.quorate.api.TokenR\x05token"\x12\n\x10TokenListRequest"?\n\x11TokenL'
    b'istResponse\x12*\n\x06tokens\x18\x01 \x03(\x0b2\x12.quorate.api.TokenR\x06tokens"$\n\x12Token'
    b'RevokeRequest\x12\x0e\n\x02id\x18\x01 \x01(\tR\x02id"\x15\n\x13TokenRevokeResponse"Q\n\x0fNodeGetR'
    b'esponse\x12>\n\rclocked_entry\x18\x01 \x01(\x0b2\x19.quorate.api.ClockedEntryR\x0cclock'
    b'edEntry"z\n\x0eNodeSetRequest\x12>\n\rclocked_entry\x18\x01 \x01(\x0b2\x19.quorate.api.C'
    b'lockedEntryR\x0cclockedEntry\x12(\n\x05entry\x18\x02 \x01(\x0b2\x12.quorate.api.EntryR\x05en'
    b'try"\x11\n\x0fClockGetRequest"A\n\x10ClockGetResponse\x12-\n\x05clock\x18\x01 \x01(\x0b2\x17.quor'
    b'ate.api.ClockValueR\x05clock"@\n\x0fClockSetRequest\x12-\n\x05clock\x18\x01 \x01(\x0b2\x17.qu'
    b'orate.api.ClockValueR\x05clock"A\n\x10ClockSetResponse\x12-\n\x05clock\x18\x01 \x01(\x0b2\x17'
    b'.quorate.api.ClockValueR\x05clock"\x0f\n\rHealthRequest"\xb6\x06\n\x0eHealthRespon'
    b'se\x12\x17\n\x07node_id\x18\x01 \x01(\tR\x06nodeId\x12+\n\x06status\x18\x02 \x01(\x0e2\x13.quorate.api.Health'
    b'R\x06status\x121\n\x06uptime\x18\x03 \x01(\x0b2\x19.google.protobuf.DurationR\x06uptime\x12\x16\n\x06d'
    b'etail\x18\x04 \x01(\tR\x06detail\x12\x18\n\x07version\x18\x05 \x01(\tR\x07version\x12-\n\x05clock\x18\x06 \x01(\x0b2\x17.q'
    b'uorate.api.ClockValueR\x05clock\x12#\n\rkeys_estimate\x18\x07 \x01(\x04R\x0ckeysEstimat'
    b'e\x12\x1d\n\ndisk_bytes\x18\x08 \x01(\x04R\tdiskBytes\x12-\n\x05peers\x18\t \x03(\x0b2\x17.quorate.api.Pe'
    b'erHealthR\x05peers\x12\x16\n\x06serves\x18\n \x01(\x08R\x06serves\x121\n\x06repair\x18\x0b \x01(\x0b2\x19.quorat'
    b'e.api.RepairHealthR\x06repair\x12\x1d\n\ndata_bytes\x18\x0c \x01(\x04R\tdataBytes\x12.\n\x05scr'
    b'ub\x18\r \x01(\x0b2\x18.quorate.api.ScrubHealthR\x05scrub\x12\x18\n\x07damaged\x18\x0e \x01(\x08R\x07dama'
    b'ged\x12+\n\x0fdisk_free_bytes\x18\x0f \x01(\x04H\x00R\rdiskFreeBytes\x88\x01\x01\x12-\n\x10disk_total_b'
    b'ytes\x18\x10 \x01(\x04H\x01R\x0ediskTotalBytes\x88\x01\x01\x12&\n\x0fsync_p99_micros\x18\x11 \x01(\x04R\rsyncP9'
    b'9Micros\x12=\n\x18certificate_ends_seconds\x18\x12 \x01(\x03H\x02R\x16certificateEndsSeco'
    b'nds\x88\x01\x01\x12\x1a\n\x08requests\x18\x13 \x01(\x04R\x08requestsB\x12\n\x10_disk_free_bytesB\x13\n\x11_disk_'
    b'total_bytesB\x1b\n\x19_certificate_ends_seconds"\x91\x01\n\x0bScrubHealth\x12\x18\n\x07runn'
    b'ing\x18\x01 \x01(\x08R\x07running\x12\x14\n\x05bytes\x18\x02 \x01(\x04R\x05bytes\x12\x16\n\x06passes\x18\x03 \x01(\x04R\x06passes'
    b'\x12:\n\x0bclean_since\x18\x04 \x01(\x0b2\x19.google.protobuf.DurationR\ncleanSince"%\n\r'
    b'RepairRequest\x12\x14\n\x05scrub\x18\x01 \x01(\x08R\x05scrub"@\n\x0eRepairResponse\x12\x18\n\x07ordered'
    b'\x18\x01 \x01(\x08R\x07ordered\x12\x14\n\x05scrub\x18\x02 \x01(\x04R\x05scrub"\xb2\x02\n\x0cRepairHealth\x12#\n\rshare_'
    b'counted\x18\x01 \x01(\x01R\x0cshareCounted\x12\x18\n\x07records\x18\x02 \x01(\x04R\x07records\x12\x1e\n\ntombsto'
    b"nes\x18\x03 \x01(\x04R\ntombstones\x12\x1a\n\x08repaired\x18\x04 \x01(\x04R\x08repaired\x12'\n\x0ftombstone_s"
    b'lots\x18\x05 \x01(\x04R\x0etombstoneSlots\x121\n\x14tombstones_forgotten\x18\x06 \x01(\x04R\x13tombst'
    b'onesForgotten\x12K\n\x13tombstones_wait_for\x18\x07 \x03(\x0b2\x1b.quorate.api.Tombsto'
    b'nesWaitR\x11tombstonesWaitFor"S\n\x0eTombstonesWait\x12\x17\n\x07node_id\x18\x01 \x01(\tR\x06n'
    b'odeId\x12\x14\n\x05slots\x18\x02 \x01(\x04R\x05slots\x12\x12\n\x04slot\x18\x03 \x01(\rR\x04slot"\x9c\x01\n\nPeerHealth\x12\x17'
    b'\n\x07node_id\x18\x01 \x01(\tR\x06nodeId\x12,\n\x05state\x18\x02 \x01(\x0e2\x16.quorate.api.PeerStateR\x05'
    b'state\x12\x16\n\x06detail\x18\x03 \x01(\tR\x06detail\x12/\n\x06repair\x18\x04 \x01(\x0b2\x17.quorate.api.Pair'
    b'HealthR\x06repair"~\n\nPairHealth\x12\x1c\n\tcomparing\x18\x01 \x01(\x08R\tcomparing\x12\x16\n\x06be'
    b'hind\x18\x02 \x01(\x04R\x06behind\x12:\n\x0bequal_since\x18\x03 \x01(\x0b2\x19.google.protobuf.Durati'
    b'onR\nequalSince";\n\x0bInfoRequest\x12\x16\n\x06prefix\x18\x01 \x01(\tR\x06prefix\x12\x14\n\x05limit\x18\x02'
    b' \x01(\x04R\x05limit"n\n\x0cInfoResponse\x12\x17\n\x07node_id\x18\x01 \x01(\tR\x06nodeId\x121\n\x06uptime\x18\x02'
    b' \x01(\x0b2\x19.google.protobuf.DurationR\x06uptime\x12\x12\n\x04keys\x18\x03 \x03(\tR\x04keys"\x14\n\x12C'
    b'lusterInfoRequest"\x9c\x02\n\x13ClusterInfoResponse\x121\n\x06uptime\x18\x01 \x01(\x0b2\x19.goog'
    b'le.protobuf.DurationR\x06uptime\x12+\n\x11replication_level\x18\x02 \x01(\x03R\x10replica'
    b'tionLevel\x12=\n\rstorage_nodes\x18\x03 \x03(\x0b2\x18.quorate.api.StorageNodeR\x0cstor'
    b'ageNodes\x12\x12\n\x04seed\x18\x04 \x01(\rR\x04seed\x12\x17\n\x07node_id\x18\x05 \x01(\tR\x06nodeId\x12\x1f\n\x0bepoch_f'
    b'loor\x18\x06 \x01(\x04R\nepochFloor\x12\x18\n\x07cluster\x18\x07 \x01(\tR\x07cluster"\x92\x02\n\x0bStorageNode'
    b'\x12\x0e\n\x02id\x18\x01 \x01(\tR\x02id\x12\x18\n\x07address\x18\x03 \x01(\tR\x07address\x12,\n\x05state\x18\x04 \x01(\x0e2\x16.quor'
    b'ate.api.PeerStateR\x05state\x12\x14\n\x05slots\x18\x05 \x01(\rR\x05slots\x126\n\tlast_seen\x18\x06 \x01('
    b'\x0b2\x19.google.protobuf.DurationR\x08lastSeen\x12\x16\n\x06detail\x18\x07 \x01(\tR\x06detail\x12+'
    b'\n\x11weight_hundredths\x18\x08 \x01(\rR\x10weightHundredths\x12\x12\n\x04zone\x18\t \x01(\tR\x04zoneJ'
    b'\x04\x08\x02\x10\x03"\x13\n\x11MembersGetRequest"\xfa\x03\n\x12MembersGetResponse\x12\x16\n\x06number\x18\x01 \x01('
    b'\x04R\x06number\x12\x1a\n\x08changing\x18\x02 \x01(\x08R\x08changing\x12#\n\rreplica_count\x18\x03 \x01(\rR\x0cre'
    b'plicaCount\x12/\n\x11new_replica_count\x18\x04 \x01(\rH\x00R\x0fnewReplicaCount\x88\x01\x01\x124\n\x07m'
    b'embers\x18\x05 \x03(\x0b2\x1a.quorate.api.ClusterMemberR\x07members\x124\n\x07waiting\x18\x06 \x03'
    b'(\x0b2\x1a.quorate.api.WaitingMemberR\x07waiting\x12-\n\x12failures_tolerated\x18\x07 '
    b'\x01(\rR\x11failuresTolerated\x128\n\x18failures_tolerated_after\x18\x08 \x01(\rR\x16failur'
    b'esToleratedAfter\x12\x12\n\x04seed\x18\t \x01(\rR\x04seed\x12\x17\n\x07node_id\x18\n \x01(\tR\x06nodeId\x12!\n'
    b'\x0ccluster_name\x18\x0b \x01(\tR\x0bclusterName\x12\x1f\n\x0bepoch_floor\x18\x0c \x01(\x04R\nepochFloo'
    b'rB\x14\n\x12_new_replica_count"\xaf\x03\n\rClusterMember\x12\x0e\n\x02id\x18\x01 \x01(\tR\x02id\x12\x18\n\x07add'
    b'ress\x18\x02 \x01(\tR\x07address\x12\x1a\n\x08identity\x18\x03 \x01(\tR\x08identity\x12\x15\n\x06in_old\x18\x04 \x01(\x08R'
    b'\x05inOld\x12\x15\n\x06in_new\x18\x05 \x01(\x08R\x05inNew\x12\x18\n\x07reached\x18\x06 \x01(\x08R\x07reached\x12\x14\n\x05slots'
    b'\x18\x07 \x01(\rR\x05slots\x12"\n\ndisk_bytes\x18\x08 \x01(\x04H\x00R\tdiskBytes\x88\x01\x01\x127\n\x08progress\x18\t '
    b'\x01(\x0b2\x1b.quorate.api.MemberProgressR\x08progress\x12+\n\x11weight_hundredths\x18'
    b'\n \x01(\rR\x10weightHundredths\x12\x12\n\x04zone\x18\x0b \x01(\tR\x04zone\x122\n\x15old_weight_hundre'
    b'dths\x18\x0c \x01(\rR\x13oldWeightHundredths\x12\x19\n\x08old_zone\x18\r \x01(\tR\x07oldZoneB\r\n\x0b_d'
    b'isk_bytes"\x8b\x01\n\x0eMemberProgress\x12\x1a\n\x08complete\x18\x01 \x01(\x08R\x08complete\x12\x14\n\x05slot'
    b's\x18\x02 \x01(\rR\x05slots\x12\x1d\n\nslots_done\x18\x03 \x01(\rR\tslotsDone\x12\x12\n\x04keys\x18\x04 \x01(\x04R\x04key'
    b's\x12\x14\n\x05bytes\x18\x05 \x01(\x04R\x05bytes"U\n\rWaitingMember\x12\x0e\n\x02id\x18\x01 \x01(\tR\x02id\x12\x18\n\x07addr'
    b'ess\x18\x02 \x01(\tR\x07address\x12\x1a\n\x08identity\x18\x03 \x01(\tR\x08identity"\xab\x01\n\x0bMembersWish\x123'
    b'\n\x07members\x18\x01 \x03(\x0b2\x19.quorate.api.WishedMemberR\x07members\x12#\n\rreplica_c'
    b'ount\x18\x02 \x01(\rR\x0creplicaCount\x12\x1f\n\x08expected\x18\x03 \x01(\x04H\x00R\x08expected\x88\x01\x01\x12\x14\n\x05for'
    b'ce\x18\x04 \x01(\x08R\x05forceB\x0b\n\t_expected"\x95\x01\n\x0cWishedMember\x12\x0e\n\x02id\x18\x01 \x01(\tR\x02id\x12\x18\n'
    b'\x07address\x18\x02 \x01(\tR\x07address\x12\x1a\n\x08identity\x18\x03 \x01(\tR\x08identity\x12+\n\x11weight_hu'
    b'ndredths\x18\x04 \x01(\rR\x10weightHundredths\x12\x12\n\x04zone\x18\x05 \x01(\tR\x04zone"\xf0\x03\n\x13Members'
    b'PlanResponse\x12\x16\n\x06number\x18\x01 \x01(\x04R\x06number\x12?\n\x0bdifferences\x18\x02 \x03(\x0b2\x1d.quor'
    b'ate.api.MemberDifferenceR\x0bdifferences\x12-\n\x05moves\x18\x03 \x03(\x0b2\x17.quorate.a'
    b'pi.MemberMoveR\x05moves\x12-\n\x12failures_tolerated\x18\x04 \x01(\rR\x11failuresTolera'
    b'ted\x12@\n\x1cfailures_tolerated_meanwhile\x18\x05 \x01(\rR\x1afailuresToleratedMean'
    b'while\x128\n\x18failures_tolerated_after\x18\x06 \x01(\rR\x16failuresToleratedAfter\x12'
    b'#\n\rreplica_count\x18\x07 \x01(\rR\x0creplicaCount\x12*\n\x11new_replica_count\x18\x08 \x01(\rR'
    b'\x0fnewReplicaCount\x124\n\x16slots_without_majority\x18\t \x01(\rR\x14slotsWithoutMa'
    b'jority\x12\x1f\n\x0bbytes_known\x18\n \x01(\x08R\nbytesKnown"\x93\x02\n\x10MemberDifference\x12\x0e\n\x02'
    b'id\x18\x01 \x01(\tR\x02id\x12+\n\x04fate\x18\x02 \x01(\x0e2\x17.quorate.api.MemberFateR\x04fate\x12\x18\n\x07add'
    b'ress\x18\x03 \x01(\tR\x07address\x12\x18\n\x07reached\x18\x04 \x01(\x08R\x07reached\x12+\n\x11weight_hundredt'
    b'hs\x18\x05 \x01(\rR\x10weightHundredths\x12\x12\n\x04zone\x18\x06 \x01(\tR\x04zone\x122\n\x15old_weight_hun'
    b'dredths\x18\x07 \x01(\rR\x13oldWeightHundredths\x12\x19\n\x08old_zone\x18\x08 \x01(\tR\x07oldZone"\\\n'
    b'\nMemberMove\x12\x12\n\x04from\x18\x01 \x01(\tR\x04from\x12\x0e\n\x02to\x18\x02 \x01(\tR\x02to\x12\x14\n\x05slots\x18\x03 \x01(\rR\x05'
    b'slots\x12\x14\n\x05bytes\x18\x04 \x01(\x04R\x05bytes"/\n\x15MembersChangeResponse\x12\x16\n\x06number\x18\x01'
    b' \x01(\x04R\x06number"C\n\x13MembersAbortRequest\x12\x1f\n\x08expected\x18\x01 \x01(\x04H\x00R\x08expecte'
    b'd\x88\x01\x01B\x0b\n\t_expected"h\n\tRpcStatus\x12\x12\n\x04code\x18\x01 \x01(\x05R\x04code\x12\x18\n\x07message\x18\x02 '
    b'\x01(\tR\x07message\x12-\n\x07details\x18\x03 \x03(\x0b2\x13.quorate.api.RpcAnyR\x07details"9\n\x06R'
    b'pcAny\x12\x19\n\x08type_url\x18\x01 \x01(\tR\x07typeUrl\x12\x14\n\x05value\x18\x02 \x01(\x0cR\x05value"\xc0\x01\n\x0cRpcEr'
    b'rorInfo\x12\x16\n\x06reason\x18\x01 \x01(\tR\x06reason\x12\x16\n\x06domain\x18\x02 \x01(\tR\x06domain\x12C\n\x08metad'
    b"ata\x18\x03 \x03(\x0b2'.quorate.api.RpcErrorInfo.MetadataEntryR\x08metadata\x1a;\n\r"
    b'MetadataEntry\x12\x10\n\x03key\x18\x01 \x01(\tR\x03key\x12\x14\n\x05value\x18\x02 \x01(\tR\x05value:\x028\x01*(\n\x0bCon'
    b'sistency\x12\x10\n\x0cLINEARIZABLE\x10\x00\x12\x07\n\x03ONE\x10\x01*D\n\nTableState\x12\x11\n\rTABLE_UNKNO'
    b'WN\x10\x00\x12\x0f\n\x0bTABLE_READY\x10\x01\x12\x12\n\x0eTABLE_DROPPING\x10\x02*X\n\x06Health\x12\x0b\n\x07DEFAULT\x10\x00'
    b'\x12\n\n\x06ONLINE\x10\x01\x12\x0c\n\x08STARTING\x10\x02\x12\x0c\n\x08DEGRADED\x10\x03\x12\x0c\n\x08DRAINING\x10\x04\x12\x0b\n\x07REFUSE'
    b'D\x10\x05*e\n\tPeerState\x12\x10\n\x0cPEER_UNKNOWN\x10\x00\x12\x0f\n\x0bPEER_LINKED\x10\x01\x12\x14\n\x10PEER_UNRE'
    b'ACHABLE\x10\x02\x12\x10\n\x0cPEER_REFUSED\x10\x03\x12\r\n\tPEER_SELF\x10\x04*u\n\nMemberFate\x12\x10\n\x0cFATE'
    b'_UNKNOWN\x10\x00\x12\x0e\n\nFATE_ADDED\x10\x01\x12\x10\n\x0cFATE_REMOVED\x10\x02\x12\x11\n\rFATE_REPLACED\x10\x03\x12'
    b'\x0e\n\nFATE_MOVED\x10\x04\x12\x10\n\x0cFATE_WEIGHED\x10\x052\xde\x04\n\x07Cluster\x12I\n\x04Info\x12\x1f.quorate.'
    b'api.ClusterInfoRequest\x1a .quorate.api.ClusterInfoResponse\x128\n\x03Get\x12'
    b'\x17.quorate.api.GetRequest\x1a\x18.quorate.api.GetResponse\x12G\n\x08BatchGet\x12\x1c'
    b'.quorate.api.BatchGetRequest\x1a\x1d.quorate.api.BatchGetResponse\x12=\n\x04L'
    b'ist\x12\x18.quorate.api.ListRequest\x1a\x19.quorate.api.ListResponse0\x01\x128\n\x03Se'
    b't\x12\x17.quorate.api.SetRequest\x1a\x18.quorate.api.SetResponse\x12A\n\x06Delete\x12\x1a'
    b'.quorate.api.DeleteRequest\x1a\x1b.quorate.api.DeleteResponse\x12@\n\x05Watch'
    b'\x12\x19.quorate.api.WatchRequest\x1a\x1a.quorate.api.WatchResponse0\x01\x12M\n\nBat'
    b'chWrite\x12\x1e.quorate.api.BatchWriteRequest\x1a\x1f.quorate.api.BatchWrite'
    b'Response\x128\n\x03Add\x12\x17.quorate.api.AddRequest\x1a\x18.quorate.api.AddRespon'
    b'se2\xa9\x02\n\x06Tables\x12K\n\x06Create\x12\x1f.quorate.api.TableCreateRequest\x1a .quora'
    b'te.api.TableCreateResponse\x12B\n\x03Get\x12\x1c.quorate.api.TableGetRequest\x1a'
    b'\x1d.quorate.api.TableGetResponse\x12G\n\x04List\x12\x1d.quorate.api.TableListRe'
    b'quest\x1a\x1e.quorate.api.TableListResponse0\x01\x12E\n\x04Drop\x12\x1d.quorate.api.Ta'
    b'bleDropRequest\x1a\x1e.quorate.api.TableDropResponse2\xe9\x01\n\x06Tokens\x12K\n\x06Cre'
    b'ate\x12\x1f.quorate.api.TokenCreateRequest\x1a .quorate.api.TokenCreateRe'
    b'sponse\x12E\n\x04List\x12\x1d.quorate.api.TokenListRequest\x1a\x1e.quorate.api.Toke'
    b'nListResponse\x12K\n\x06Revoke\x12\x1f.quorate.api.TokenRevokeRequest\x1a .quora'
    b'te.api.TokenRevokeResponse2\xc7\x02\n\x04Node\x12A\n\x06Health\x12\x1a.quorate.api.Heal'
    b'thRequest\x1a\x1b.quorate.api.HealthResponse\x12A\n\x06Repair\x12\x1a.quorate.api.R'
    b'epairRequest\x1a\x1b.quorate.api.RepairResponse\x12=\n\x04Info\x12\x18.quorate.api.'
    b'InfoRequest\x1a\x19.quorate.api.InfoResponse0\x01\x12<\n\x03Get\x12\x17.quorate.api.Ge'
    b'tRequest\x1a\x1c.quorate.api.NodeGetResponse\x12<\n\x03Set\x12\x1b.quorate.api.Node'
    b'SetRequest\x1a\x18.quorate.api.SetResponse2\xac\x02\n\x07Members\x12F\n\x03Get\x12\x1e.quorat'
    b'e.api.MembersGetRequest\x1a\x1f.quorate.api.MembersGetResponse\x12B\n\x04Plan'
    b'\x12\x18.quorate.api.MembersWish\x1a .quorate.api.MembersPlanResponse\x12F\n\x06'
    b'Change\x12\x18.quorate.api.MembersWish\x1a".quorate.api.MembersChangeResp'
    b'onse\x12M\n\x05Abort\x12 .quorate.api.MembersAbortRequest\x1a".quorate.api.Me'
    b'mbersChangeResponse2\x8f\x01\n\x05Clock\x12B\n\x03Get\x12\x1c.quorate.api.ClockGetReque'
    b'st\x1a\x1d.quorate.api.ClockGetResponse\x12B\n\x03Set\x12\x1c.quorate.api.ClockSetR'
    b'equest\x1a\x1d.quorate.api.ClockSetResponseb\x06proto3'
)


def _message(name):
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName("quorate.api." + name))


Entry = _message("Entry")
ClockValue = _message("ClockValue")
ClockedEntry = _message("ClockedEntry")
GetRequest = _message("GetRequest")
GetResponse = _message("GetResponse")
BatchGetRequest = _message("BatchGetRequest")
BatchGetResponse = _message("BatchGetResponse")
BatchGetResult = _message("BatchGetResult")
BatchGetError = _message("BatchGetError")
ListRequest = _message("ListRequest")
ListResponse = _message("ListResponse")
ListedEntry = _message("ListedEntry")
SetRequest = _message("SetRequest")
Condition = _message("Condition")
SetResponse = _message("SetResponse")
DeleteRequest = _message("DeleteRequest")
DeleteResponse = _message("DeleteResponse")
BatchWriteRequest = _message("BatchWriteRequest")
BatchWriteEntry = _message("BatchWriteEntry")
BatchWriteResponse = _message("BatchWriteResponse")
BatchWriteResult = _message("BatchWriteResult")
BatchWriteError = _message("BatchWriteError")
AddRequest = _message("AddRequest")
AddResponse = _message("AddResponse")
WatchRequest = _message("WatchRequest")
WatchResponse = _message("WatchResponse")
WatchReady = _message("WatchReady")
WatchPut = _message("WatchPut")
WatchDeleted = _message("WatchDeleted")
WatchReset = _message("WatchReset")
WatchHeartbeat = _message("WatchHeartbeat")
Table = _message("Table")
TableSettings = _message("TableSettings")
TableCreateRequest = _message("TableCreateRequest")
TableCreateResponse = _message("TableCreateResponse")
TableGetRequest = _message("TableGetRequest")
TableGetResponse = _message("TableGetResponse")
TableListRequest = _message("TableListRequest")
TableListResponse = _message("TableListResponse")
TableDropRequest = _message("TableDropRequest")
TableDropResponse = _message("TableDropResponse")
Token = _message("Token")
TokenCreateRequest = _message("TokenCreateRequest")
TokenCreateResponse = _message("TokenCreateResponse")
TokenListRequest = _message("TokenListRequest")
TokenListResponse = _message("TokenListResponse")
TokenRevokeRequest = _message("TokenRevokeRequest")
TokenRevokeResponse = _message("TokenRevokeResponse")
NodeGetResponse = _message("NodeGetResponse")
NodeSetRequest = _message("NodeSetRequest")
ClockGetRequest = _message("ClockGetRequest")
ClockGetResponse = _message("ClockGetResponse")
ClockSetRequest = _message("ClockSetRequest")
ClockSetResponse = _message("ClockSetResponse")
HealthRequest = _message("HealthRequest")
HealthResponse = _message("HealthResponse")
ScrubHealth = _message("ScrubHealth")
RepairRequest = _message("RepairRequest")
RepairResponse = _message("RepairResponse")
RepairHealth = _message("RepairHealth")
TombstonesWait = _message("TombstonesWait")
PeerHealth = _message("PeerHealth")
PairHealth = _message("PairHealth")
InfoRequest = _message("InfoRequest")
InfoResponse = _message("InfoResponse")
ClusterInfoRequest = _message("ClusterInfoRequest")
ClusterInfoResponse = _message("ClusterInfoResponse")
StorageNode = _message("StorageNode")
MembersGetRequest = _message("MembersGetRequest")
MembersGetResponse = _message("MembersGetResponse")
ClusterMember = _message("ClusterMember")
MemberProgress = _message("MemberProgress")
WaitingMember = _message("WaitingMember")
MembersWish = _message("MembersWish")
WishedMember = _message("WishedMember")
MembersPlanResponse = _message("MembersPlanResponse")
MemberDifference = _message("MemberDifference")
MemberMove = _message("MemberMove")
MembersChangeResponse = _message("MembersChangeResponse")
MembersAbortRequest = _message("MembersAbortRequest")
RpcStatus = _message("RpcStatus")
RpcAny = _message("RpcAny")
RpcErrorInfo = _message("RpcErrorInfo")
LINEARIZABLE = 0
ONE = 1
TABLE_UNKNOWN = 0
TABLE_READY = 1
TABLE_DROPPING = 2
DEFAULT = 0
ONLINE = 1
STARTING = 2
DEGRADED = 3
DRAINING = 4
REFUSED = 5
PEER_UNKNOWN = 0
PEER_LINKED = 1
PEER_UNREACHABLE = 2
PEER_REFUSED = 3
PEER_SELF = 4
FATE_UNKNOWN = 0
FATE_ADDED = 1
FATE_REMOVED = 2
FATE_REPLACED = 3
FATE_MOVED = 4
FATE_WEIGHED = 5
