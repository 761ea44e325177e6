import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringSerializer;

/** Publish one purchase from Java: {@code java -cp 'libs/*' Publish.java BOOTSTRAP CUSTOMER purchase.json}. */
public class Publish {
  public static void main(String[] args) throws Exception {
    Map<String, Object> settings =
        Map.of("bootstrap.servers", args[0], "acks", "all", "enable.idempotence", true);
    try (var producer =
        new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
      // The customer is the key: Kafka's default partitioner keeps a customer's events in order.
      var event = Files.readString(Path.of(args[2])).strip();
      var stored = producer.send(new ProducerRecord<>("treue.purchases", args[1], event)).get();
      System.out.println("published at " + stored);
    }
  }
}
