package org.kzoo.sample

import android.content.Context
import android.graphics.Bitmap
import android.graphics.RectF
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel
import java.io.File
import java.util.zip.ZipFile
import org.json.JSONObject

/** What was found: a box in pixels of the bitmap given, the name of its class, and a score of 0..1. */
data class Detection(val box: RectF, val label: Int, val name: String, val score: Float)

/**
 * A detector that kzoo exported with `--format litert`, from the app's assets.
 *
 * Use it from one thread at a time, and close it.
 */
class Detector(context: Context, asset: String = "model.tflite", threads: Int = 4) : AutoCloseable {
    private val model: CompiledModel
    private val width: Int
    private val height: Int
    private val names: List<String>

    init {
        // The archive with the metadata stands behind the model, and is read from a file.
        val file = File(context.filesDir, asset)
        context.assets.open(asset).use { input -> file.outputStream().use { input.copyTo(it) } }
        val about = ZipFile(file).use { zip ->
            val entry = requireNotNull(zip.getEntry("kzoo.json")) { "$asset was not exported by kzoo" }
            JSONObject(zip.getInputStream(entry).reader().readText())
        }
        require(about.getString("task") == "detection") { "$asset is no detector" }
        height = about.getJSONArray("image_size").getInt(0)
        width = about.getJSONArray("image_size").getInt(1)
        names = about.optJSONArray("class_names")?.let { list -> List(list.length()) { list.getString(it) } }.orEmpty()

        val options = CompiledModel.Options(Accelerator.CPU)
        options.cpuOptions = CompiledModel.CpuOptions(numThreads = threads)
        model = CompiledModel.create(file.path, options)
    }

    private val input = model.createInputBuffer("image", SIGNATURE)
    private val outputs =
        listOf("boxes", "labels", "scores", "num_detections").associateWith { model.createOutputBuffer(it, SIGNATURE) }
    private val colours = IntArray(width * height)
    private val pixels = FloatArray(width * height * 3)

    /** Everything in an upright bitmap that scores at least [least], best first. */
    fun detect(bitmap: Bitmap, least: Float = 0.5f): List<Detection> {
        Bitmap.createScaledBitmap(bitmap, width, height, true).getPixels(colours, 0, width, 0, 0, width, height)
        colours.forEachIndexed { i, colour -> // ARGB; the network takes RGB 0..255 and normalises it itself
            pixels[3 * i] = (colour shr 16 and 0xff).toFloat()
            pixels[3 * i + 1] = (colour shr 8 and 0xff).toFloat()
            pixels[3 * i + 2] = (colour and 0xff).toFloat()
        }
        input.writeFloat(pixels)
        model.run(mapOf("image" to input), outputs, SIGNATURE)

        val boxes = outputs.getValue("boxes").readFloat()
        val labels = outputs.getValue("labels").readInt()
        val scores = outputs.getValue("scores").readFloat()
        val count = outputs.getValue("num_detections").readInt()[0]
        val (sx, sy) = Pair(bitmap.width.toFloat() / width, bitmap.height.toFloat() / height)
        return (0 until count).filter { scores[it] >= least }.map { i ->
            val (x1, y1, x2, y2) = boxes.slice(4 * i until 4 * i + 4)
            val name = names.getOrElse(labels[i]) { labels[i].toString() }
            Detection(RectF(x1 * sx, y1 * sy, x2 * sx, y2 * sy), labels[i], name, scores[i])
        }
    }

    override fun close() {
        input.close()
        outputs.values.forEach { it.close() }
        model.close()
    }

    private companion object {
        const val SIGNATURE = "serving_default"
    }
}
