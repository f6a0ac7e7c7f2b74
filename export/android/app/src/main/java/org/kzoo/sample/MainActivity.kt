package org.kzoo.sample

import android.Manifest
import android.content.pm.PackageManager
import android.graphics.Bitmap
import android.graphics.Canvas
import android.graphics.Color
import android.graphics.Matrix
import android.graphics.Paint
import android.os.Bundle
import android.os.SystemClock
import android.widget.ImageView
import android.widget.Toast
import androidx.activity.ComponentActivity
import androidx.activity.result.contract.ActivityResultContracts
import androidx.camera.core.CameraSelector
import androidx.camera.core.ImageAnalysis
import androidx.camera.core.ImageProxy
import androidx.camera.lifecycle.ProcessCameraProvider
import androidx.core.content.ContextCompat
import java.util.concurrent.Executors

/** Shows the camera's frames with the boxes in them. The frame that is shown is the one that was looked at. */
class MainActivity : ComponentActivity() {
    private val worker = Executors.newSingleThreadExecutor()
    private var detector: Detector? = null // used on `worker` only
    private lateinit var view: ImageView

    private val askForCamera =
        registerForActivityResult(ActivityResultContracts.RequestPermission()) { granted ->
            if (granted) startCamera() else Toast.makeText(this, "No camera, no detections.", Toast.LENGTH_LONG).show()
        }

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        view = ImageView(this).apply { scaleType = ImageView.ScaleType.FIT_CENTER }
        setContentView(view)
        val granted = ContextCompat.checkSelfPermission(this, Manifest.permission.CAMERA)
        if (granted == PackageManager.PERMISSION_GRANTED) startCamera() else askForCamera.launch(Manifest.permission.CAMERA)
    }

    override fun onDestroy() {
        super.onDestroy()
        worker.execute { detector?.close() }
        worker.shutdown()
    }

    private fun startCamera() {
        val analysis = ImageAnalysis.Builder()
            .setBackpressureStrategy(ImageAnalysis.STRATEGY_KEEP_ONLY_LATEST) // the newest frame; others are dropped
            .setOutputImageFormat(ImageAnalysis.OUTPUT_IMAGE_FORMAT_RGBA_8888)
            .build()
        analysis.setAnalyzer(worker, ::look)
        val future = ProcessCameraProvider.getInstance(this)
        future.addListener(
            { future.get().bindToLifecycle(this, CameraSelector.DEFAULT_BACK_CAMERA, analysis) },
            ContextCompat.getMainExecutor(this),
        )
    }

    private fun look(frame: ImageProxy) {
        val bitmap = frame.use { upright(it.toBitmap(), it.imageInfo.rotationDegrees) }
        val ready = detector ?: Detector(this).also { detector = it }
        val start = SystemClock.elapsedRealtime()
        val found = ready.detect(bitmap)
        val drawn = draw(bitmap, found, SystemClock.elapsedRealtime() - start)
        runOnUiThread { view.setImageBitmap(drawn) }
    }

    private fun upright(bitmap: Bitmap, degrees: Int): Bitmap {
        val turn = Matrix().apply { postRotate(degrees.toFloat()) }
        return Bitmap.createBitmap(bitmap, 0, 0, bitmap.width, bitmap.height, turn, true)
    }

    private fun draw(bitmap: Bitmap, found: List<Detection>, milliseconds: Long): Bitmap {
        val drawn = bitmap.copy(Bitmap.Config.ARGB_8888, true)
        val canvas = Canvas(drawn)
        val line = Paint().apply { style = Paint.Style.STROKE; strokeWidth = drawn.width / 160f }
        val text = Paint(Paint.ANTI_ALIAS_FLAG).apply { textSize = drawn.width / 24f }
        for (one in found.asReversed()) {
            line.color = Color.HSVToColor(floatArrayOf((one.label * 137.5f) % 360, 0.8f, 0.95f))
            text.color = line.color
            canvas.drawRect(one.box, line)
            canvas.drawText("%s %.2f".format(one.name, one.score), one.box.left, one.box.top - line.strokeWidth, text)
        }
        text.color = Color.WHITE
        canvas.drawText("$milliseconds ms", text.textSize / 2, drawn.height - text.textSize / 2, text)
        return drawn
    }
}
