// A peer made of OpenIGTLink's own C++ library, which link.py measures beside ours. Loopback only where it may choose.
//
//   link_peer send NX NY NZ BYTES FPS COUNT         serves images; each is stamped when its pixels are ready to go
//   link_peer receive HOST PORT COUNT SECONDS       one line a message: latency in ms
//   link_peer stream HZ COUNT SECONDS               serves transforms; one line for each STRING received: latency in ms
//   link_peer stop HOST PORT COUNT                  reads a stream and sends STRINGs at random moments
//
// A server prints "port N" first. The last line is "cpu S wall S".

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include <sys/resource.h>

#include "igtlClientSocket.h"
#include "igtlImageMessage.h"
#include "igtlMath.h"
#include "igtlMessageHeader.h"
#include "igtlOSUtil.h"
#include "igtlServerSocket.h"
#include "igtlStringMessage.h"
#include "igtlTransformMessage.h"

namespace
{
double Now()
{
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

void StampNow(igtl::MessageBase* message)
{
  igtl::TimeStamp::Pointer stamp = igtl::TimeStamp::New();
  stamp->SetTime(Now());
  message->SetTimeStamp(stamp);
}

double StampOf(igtl::MessageBase* message)
{
  igtl::TimeStamp::Pointer stamp = igtl::TimeStamp::New();
  message->GetTimeStamp(stamp);
  return stamp->GetTimeStamp();
}

igtl::ClientSocket::Pointer Served(igtl::ServerSocket::Pointer server)
{
  if (server->CreateServer(0) < 0)
  {
    std::exit(3);
  }
  std::printf("port %d\n", server->GetServerPort());
  std::fflush(stdout);
  igtl::ClientSocket::Pointer socket = server->WaitForConnection(30000);
  if (socket.IsNull())
  {
    std::exit(4);
  }
  return socket;
}

igtl::ClientSocket::Pointer Connected(const char* host, const char* port)
{
  igtl::ClientSocket::Pointer socket = igtl::ClientSocket::New();
  if (socket->ConnectToServer(host, std::atoi(port)) != 0)
  {
    std::exit(5);
  }
  return socket;
}

bool Header(igtl::Socket* socket, igtl::MessageHeader::Pointer header)
{
  header->InitPack();
  if (socket->Receive(header->GetPackPointer(), header->GetPackSize()) != header->GetPackSize())
  {
    return false;
  }
  header->Unpack();
  return true;
}

template <class Message>
typename Message::Pointer Body(igtl::Socket* socket, igtl::MessageHeader::Pointer header)
{
  typename Message::Pointer message = Message::New();
  message->SetMessageHeader(header);
  message->AllocatePack();
  if (socket->Receive(message->GetPackBodyPointer(), message->GetPackBodySize()) != message->GetPackBodySize())
  {
    return nullptr;
  }
  return (message->Unpack(1) & igtl::MessageHeader::UNPACK_BODY) ? message : nullptr; // 1: the checksum is checked
}

void Send(char** argv)
{
  int size[3] = { std::atoi(argv[0]), std::atoi(argv[1]), std::atoi(argv[2]) };
  const int bytes = std::atoi(argv[3]), count = std::atoi(argv[5]);
  const double period = 1.0 / std::atof(argv[4]);
  std::vector<char> pixels(size_t(size[0]) * size[1] * size[2] * bytes, 7);
  igtl::ServerSocket::Pointer server = igtl::ServerSocket::New();
  igtl::ClientSocket::Pointer socket = Served(server);
  igtl::ImageMessage::Pointer image = igtl::ImageMessage::New();
  image->SetDimensions(size);
  image->SetScalarType(bytes == 2 ? igtl::ImageMessage::TYPE_INT16 : igtl::ImageMessage::TYPE_UINT8);
  image->SetDeviceName("Scan");
  image->SetSubVolume(size, std::vector<int>(3, 0).data());
  image->AllocateScalars();
  double next = Now() + 0.3;
  for (int i = 0; i < count; ++i, next += period)
  {
    std::this_thread::sleep_for(std::chrono::duration<double>(next - Now()));
    std::memcpy(image->GetScalarPointer(), pixels.data(), pixels.size());
    StampNow(image);
    image->Pack();
    if (!socket->Send(image->GetPackPointer(), image->GetPackSize()))
    {
      return;
    }
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
}

void Receive(char** argv)
{
  igtl::ClientSocket::Pointer socket = Connected(argv[0], argv[1]);
  socket->SetReceiveTimeout(1000 * std::atoi(argv[3]));
  igtl::MessageHeader::Pointer header = igtl::MessageHeader::New();
  for (int i = 0; i < std::atoi(argv[2]) && Header(socket, header); ++i)
  {
    igtl::ImageMessage::Pointer image = Body<igtl::ImageMessage>(socket, header);
    if (image.IsNull())
    {
      return;
    }
    std::printf("%.6f\n", 1000 * (Now() - StampOf(image)));
  }
}

void Stream(char** argv)
{
  const double period = 1.0 / std::atof(argv[0]), end = Now() + std::atof(argv[2]);
  igtl::ServerSocket::Pointer server = igtl::ServerSocket::New();
  igtl::ClientSocket::Pointer socket = Served(server);
  std::atomic<bool> over(false);
  std::thread streaming([&] {
    igtl::TransformMessage::Pointer transform = igtl::TransformMessage::New();
    transform->SetDeviceName("Tip");
    igtl::Matrix4x4 matrix;
    igtl::IdentityMatrix(matrix);
    transform->SetMatrix(matrix);
    for (double next = Now(); !over && Now() < end; next += period)
    {
      std::this_thread::sleep_for(std::chrono::duration<double>(next - Now()));
      StampNow(transform);
      transform->Pack();
      if (!socket->Send(transform->GetPackPointer(), transform->GetPackSize()))
      {
        return;
      }
    }
  });
  socket->SetReceiveTimeout(1000 * std::atoi(argv[2]));
  igtl::MessageHeader::Pointer header = igtl::MessageHeader::New();
  for (int i = 0; i < std::atoi(argv[1]) && Header(socket, header); ++i)
  {
    igtl::StringMessage::Pointer text = Body<igtl::StringMessage>(socket, header);
    if (text.IsNull())
    {
      break;
    }
    std::printf("%.6f\n", 1000 * (Now() - StampOf(text)));
    std::fflush(stdout);
  }
  over = true;
  streaming.join();
}

void Stop(char** argv)
{
  igtl::ClientSocket::Pointer socket = Connected(argv[0], argv[1]);
  std::thread reading([&] {
    igtl::MessageHeader::Pointer header = igtl::MessageHeader::New();
    while (Header(socket, header) && Body<igtl::TransformMessage>(socket, header).IsNotNull())
    {
    }
  });
  std::mt19937 random(1);
  std::uniform_real_distribution<double> pause(0.02, 0.06);
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  for (int i = 0; i < std::atoi(argv[2]); ++i)
  {
    std::this_thread::sleep_for(std::chrono::duration<double>(pause(random)));
    igtl::StringMessage::Pointer text = igtl::StringMessage::New();
    text->SetDeviceName("CMD_1");
    StampNow(text);
    text->SetString("STOP");
    text->Pack();
    socket->Send(text->GetPackPointer(), text->GetPackSize());
  }
  reading.join();
}
} // namespace

int main(int argc, char** argv)
{
  const std::string what = argc > 1 ? argv[1] : "";
  const double began = Now();
  if (what == "send" && argc == 8) { Send(argv + 2); }
  else if (what == "receive" && argc == 6) { Receive(argv + 2); }
  else if (what == "stream" && argc == 5) { Stream(argv + 2); }
  else if (what == "stop" && argc == 5) { Stop(argv + 2); }
  else { std::fprintf(stderr, "wrong arguments\n"); return 2; }
  rusage used;
  getrusage(RUSAGE_SELF, &used);
  const double cpu = used.ru_utime.tv_sec + used.ru_stime.tv_sec + 1e-6 * (used.ru_utime.tv_usec + used.ru_stime.tv_usec);
  std::printf("cpu %.3f wall %.3f\n", cpu, Now() - began);
  return 0;
}
