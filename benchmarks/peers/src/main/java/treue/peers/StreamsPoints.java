package treue.peers;

import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/**
 * Dedupe by event id, sum of points per customer, every new sum to an output topic: exactly once, in RocksDB.
 *
 * <p>Arguments: bootstrap, application id, input topic, output topic, state directory, threads, commit ms.
 */
public final class StreamsPoints {
  private static final String SEEN = "seen";
  private static final String TOTALS = "totals";

  private StreamsPoints() {}

  public static void main(String[] arguments) throws InterruptedException {
    Topology topology = topology(arguments[2], arguments[3]);
    KafkaStreams streams = new KafkaStreams(topology, settings(arguments));
    CountDownLatch stopped = new CountDownLatch(1);
    streams.setUncaughtExceptionHandler(
        error -> {
          error.printStackTrace();
          Runtime.getRuntime().halt(1);
          return StreamThreadExceptionResponse.SHUTDOWN_APPLICATION;
        });
    Runtime.getRuntime()
        .addShutdownHook(
            new Thread(
                () -> {
                  streams.close();
                  stopped.countDown();
                }));
    streams.start();
    stopped.await();
  }

  private static Topology topology(String input, String output) {
    Topology topology = new Topology();
    topology.addSource("purchases", Serdes.ByteArray().deserializer(), Serdes.ByteArray().deserializer(), input);
    topology.addProcessor("points", Sum::new, "purchases");
    topology.addStateStore(
        Stores.keyValueStoreBuilder(Stores.persistentKeyValueStore(SEEN), Serdes.String(), Serdes.ByteArray())
            .withCachingEnabled(),
        "points");
    topology.addStateStore(
        Stores.keyValueStoreBuilder(Stores.persistentKeyValueStore(TOTALS), Serdes.String(), Serdes.Long())
            .withCachingEnabled(),
        "points");
    topology.addSink("totals-out", output, Serdes.String().serializer(), Serdes.String().serializer(), "points");
    return topology;
  }

  private static Properties settings(String[] arguments) {
    Properties settings = new Properties();
    settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[0]);
    settings.put(StreamsConfig.APPLICATION_ID_CONFIG, arguments[1]);
    settings.put(StreamsConfig.STATE_DIR_CONFIG, arguments[4]);
    settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, arguments[5]);
    settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, arguments[6]);
    settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
    settings.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, "1");
    settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, String.valueOf(64L << 20));
    settings.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), String.valueOf(256 << 10));
    settings.put(StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG), "20");
    settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
    settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), "5000");
    settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_PARTITION_FETCH_BYTES_CONFIG), String.valueOf(4 << 20));
    return settings;
  }

  /** One task's share: the stores are co-partitioned with the input by customer. */
  private static final class Sum implements Processor<byte[], byte[], String, String> {
    private static final byte[] PRESENT = {1};
    private ProcessorContext<String, String> context;
    private KeyValueStore<String, byte[]> seen;
    private KeyValueStore<String, Long> totals;

    @Override
    public void init(ProcessorContext<String, String> processorContext) {
      context = processorContext;
      seen = context.getStateStore(SEEN);
      totals = context.getStateStore(TOTALS);
    }

    @Override
    public void process(Record<byte[], byte[]> record) {
      Points points = Points.of(record.value());
      if (seen.putIfAbsent(points.id, PRESENT) != null || points.customer == null) {
        return;
      }
      Long before = totals.get(points.customer);
      long after = (before == null ? 0L : before) + points.points;
      totals.put(points.customer, after);
      context.forward(new Record<>(points.customer, Long.toString(after), record.timestamp()));
    }
  }
}
